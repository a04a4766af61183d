/**
 * The real views in an empty page, over a server that the page itself plays: REST by a function,
 * the stream by a WebSocket that speaks the backend's frames. What is measured is the front end.
 */
import '../../widgets/ui/style/index.css';

import { mountAttemptStream, mountAuditTable, mountTaskBoard } from '../../widgets/ui/src/mount';
import { HttpSource } from '../../widgets/ui/src/source/http';
import type { Transport } from '../../widgets/ui/src/source/transport';
import { BoardSocket, tasksOf } from './board';

interface Line {
  seq: number;
  type: string;
  timestamp: string;
  payload: { [key: string]: unknown };
}

const MOMENT = '2026-01-01T00:00:00Z';
const BATCH = 500;
const PAGE = 1000;

/**
 * A line of a stream of any length, made when it is asked for: the page holds none of them.
 *
 * Paragraphs of the agent and notices in turn, each an entry of its own.
 */
function line(seq: number): Line {
  const words = 'value '.repeat(seq % 12);
  const payload =
    seq % 2 === 1
      ? { kind: 'text', step: seq, delta: `Step ${seq}. ${words}` }
      : { kind: 'notice', text: `line ${seq}: ${words}` };
  return { seq, type: 'LOG', timestamp: MOMENT, payload };
}

const attempt = {
  id: 'a', task: 't', project: 'p', number: 1, status: 'RUNNING', branch_name: 'attempt/a',
  base_commit: null, head_commit: null, started_at: MOMENT, completed_at: null, exit_code: null,
  failure: null, failure_message: null, agent: null, usage: {}, last_seq: 0, first_seq: 1,
  denied_count: 0, created_at: MOMENT, gates: []
};

/** Entries of the audit, page by page. */
function auditPage(total: number, cursor: number): unknown {
  const results = [];
  for (let at = cursor; at < Math.min(total, cursor + PAGE); at++) {
    const denied = at % 97 === 0;
    results.push({
      id: total - at, run_id: 'r', attempt: null, seq: total - at, timestamp: MOMENT,
      operation: at % 3 ? 'READ' : 'WRITE', result: denied ? 'DENIED' : 'ALLOWED',
      path: `/home/user/project/src/package_${at % 50}/module_${at}.py`, source: 'kernel',
      detail: { program: '/usr/bin/python3.11' }, hash: ''
    });
  }
  const next = cursor + PAGE < total ? String(cursor + PAGE) : null;
  return { results, next };
}

let lines = 0;
let rows = 0;
let socket: StreamSocket | null = null;

/** The backend's end of an attempt's stream. */
class StreamSocket {
  static readonly OPEN = 1;
  readonly readyState = StreamSocket.OPEN;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((event: unknown) => void) | null = null;
  private sent = 0;

  constructor(url: string) {
    // Requests for access are watched over a socket of their own, on which nothing comes here.
    if (!url.includes('/ws/attempts/')) {
      return;
    }
    socket = this;
    const tail = Number(new URL(url).searchParams.get('tail') ?? lines);
    setTimeout(() => {
      this.frame({ type: 'hello', last_seq: lines, status: 'RUNNING' });
      this.sent = Math.max(0, lines - tail);
      while (this.sent < lines) {
        this.push(Math.min(BATCH, lines - this.sent));
      }
    });
  }

  /** Send so many more lines, in one frame. */
  push(count: number): void {
    const events = Array.from({ length: count }, (_, index) => line(this.sent + index + 1));
    this.sent += count;
    this.frame({ type: 'events', events });
  }

  send(): void {
    // Acknowledgements; this server does not wait for them.
  }

  close(): void {
    this.onclose = null;
  }

  /** Send a command's call and so many lines of its output, a thousand an event. */
  output(count: number): void {
    const events: Line[] = [];
    const add = (payload: Line['payload']): void => {
      this.sent += 1;
      events.push({ seq: this.sent, type: 'LOG', timestamp: MOMENT, payload });
    };
    add({ kind: 'tool_call', step: 1, call_id: 'c', tool: 'run_command', args: {} });
    for (let from = 0; from < count; from += 1000) {
      let text = '';
      for (let at = from; at < Math.min(count, from + 1000); at++) {
        text += `\u001b[3${at % 8}moutput ${at + 1}:\u001b[0m ${'value '.repeat(at % 30)}\n`;
      }
      add({ kind: 'output', source: 'command:c', text });
    }
    this.frame({ type: 'events', events });
  }

  private frame(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}

/** What a view's socket is connected to, by its address. */
class Sockets {
  static readonly OPEN = 1;

  constructor(url: string) {
    return url.includes('/ws/projects/') ? new BoardSocket() : new StreamSocket(url);
  }
}
(globalThis as { WebSocket: unknown }).WebSocket = Sockets;

/** Requests that change something, as they came. */
const posted: string[] = [];

const transport: Transport = {
  async request(method, path) {
    if (method !== 'GET') {
      posted.push(`${method} ${path}`);
    }
    if (path.startsWith('api/projects/')) {
      return { results: [{ id: 'p', name: 'calc' }], next: null };
    }
    if (path.startsWith('api/audit/logs/')) {
      const cursor = new URLSearchParams(path.split('?')[1]).get('cursor');
      return auditPage(rows, Number(cursor ?? 0));
    }
    if (path.startsWith('api/audit/summary/')) {
      return { counts: [{ operation: 'READ', result: 'ALLOWED', count: rows }] };
    }
    if (path.startsWith('api/audit/timeline/')) {
      return { bucket_s: 1, buckets: [] };
    }
    if (path.startsWith('api/attempts/a/events/')) {
      return { results: [], next: null, previous: null };
    }
    return path.startsWith('api/attempts/a/') ? attempt : { results: [], next: null };
  },
  httpUrl: path => `http://127.0.0.1/${path}`,
  socketUrl: path => `ws://127.0.0.1/${path}`
};

const frames: number[] = [];
let watching = false;

function watchFrames(): void {
  let last = performance.now();
  const tick = (now: number): void => {
    frames.push(now - last);
    last = now;
    if (watching) {
      requestAnimationFrame(tick);
    }
  };
  requestAnimationFrame(tick);
}

function host(): HTMLElement {
  document.body.replaceChildren();
  const element = document.createElement('div');
  element.className = 'jp-rootbound-Panel';
  element.style.cssText = 'width: 1000px; height: 700px';
  document.body.append(element);
  return element;
}

const painted = (): Promise<void> =>
  new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!holds()) {
    await painted();
    if (performance.now() > deadline) {
      throw new Error(`not in time: ${what}`);
    }
  }
}

const bench = {
  /** Open a stream of so many lines; milliseconds until its last line is painted. */
  async openStream(count: number): Promise<number> {
    lines = count;
    const element = host();
    const began = performance.now();
    mountAttemptStream(element, new HttpSource(transport), 'a');
    while (!element.textContent?.includes(`line ${count}:`)) {
      await painted();
      if (performance.now() - began > 60_000) {
        throw new Error(`the last line did not show: ${element.textContent?.slice(-300)}`);
      }
    }
    await painted();
    return performance.now() - began;
  },

  /** Open one command's output of so many lines; milliseconds until its last is painted. */
  async openOutput(count: number): Promise<number> {
    await bench.openStream(10);
    const began = performance.now();
    socket?.output(count);
    const head = (): HTMLElement | null => document.querySelector('.jp-rootbound-Fold-head');
    await until(() => head() !== null, 'the call shows');
    head()?.click();
    await until(() => document.body.textContent?.includes(`output ${count}:`) ?? false, 'the end');
    await painted();
    return performance.now() - began;
  },

  /** Send lines at a rate; the share of time in long tasks, and the durations of the frames. */
  async follow(count: number, perSecond: number): Promise<{ blocked: number; frames: number[] }> {
    let long = 0;
    const observer = new PerformanceObserver(list => {
      for (const entry of list.getEntries()) {
        long += entry.duration;
      }
    });
    observer.observe({ type: 'longtask' });
    frames.length = 0;
    watching = true;
    watchFrames();
    const began = performance.now();
    let sent = 0;
    while (sent < count) {
      await new Promise(resolve => setTimeout(resolve, 10));
      // What is due by now, so that a slow page is not spared.
      const due = Math.min(count, Math.floor(((performance.now() - began) / 1000) * perSecond));
      if (due > sent) {
        socket?.push(due - sent);
        sent = due;
      }
    }
    await painted();
    watching = false;
    await new Promise(resolve => setTimeout(resolve, 200));
    observer.disconnect();
    return { blocked: long / (performance.now() - began), frames: [...frames] };
  },

  /** Open a board of so many tasks; milliseconds until its first card is painted. */
  async openBoard(count: number): Promise<number> {
    BoardSocket.tasks = tasksOf(count);
    const element = host();
    const began = performance.now();
    mountTaskBoard(element, new HttpSource(transport));
    await until(() => element.querySelector('[data-task]') !== null, 'the first card');
    await painted();
    return performance.now() - began;
  },

  /** Scroll a board's first column from end to end, while other tasks change. */
  async scrollBoard(): Promise<{ nodes: number; frames: number[]; seen: number }> {
    const column = document.querySelector<HTMLElement>('.jp-rootbound-Column');
    if (!column) {
      throw new Error('there is no column');
    }
    const seen = new Set<string>();
    let nodes = 0;
    frames.length = 0;
    watching = true;
    watchFrames();
    column.scrollTop = 0;
    for (let step = 0; ; step++) {
      await painted();
      nodes = Math.max(nodes, document.getElementsByTagName('*').length);
      for (const card of column.querySelectorAll<HTMLElement>('[data-task]')) {
        seen.add(card.dataset['task'] ?? '');
      }
      if (step % 10 === 0) {
        BoardSocket.last?.change(BoardSocket.tasks.length - 1, { version: step + 2 });
      }
      const before = column.scrollTop;
      column.scrollTop += 400;
      if (column.scrollTop === before) {
        break;
      }
    }
    watching = false;
    return { nodes, frames: [...frames], seen: seen.size };
  },

  /** Change a task as somebody else would. */
  changeTask(index: number, fields: { [key: string]: unknown }): void {
    BoardSocket.last?.change(index, fields);
  },

  /** Requests that changed something so far. */
  posted: () => [...posted],

  /** Open an audit of so many rows and scroll to its end, page by page. */
  async scrollAudit(count: number): Promise<{ nodes: number; frames: number[]; rows: number }> {
    rows = count;
    const element = host();
    mountAuditTable(element, new HttpSource(transport), {});
    while (!element.querySelector('.jp-rootbound-Windowed [role="row"]')) {
      await painted();
    }
    const view = element.querySelector<HTMLElement>('.jp-rootbound-Windowed');
    if (!view) {
      throw new Error('there is no list');
    }
    let nodes = 0;
    frames.length = 0;
    watching = true;
    watchFrames();
    const last = `module_${count - 1}.py`;
    while (!element.textContent?.includes(last)) {
      view.scrollTop = view.scrollHeight;
      nodes = Math.max(nodes, document.getElementsByTagName('*').length);
      await painted();
    }
    const end = view.scrollHeight;
    // And back through it as a reader does, a view at a time, for some hundred frames.
    for (let step = 0; step < 300; step++) {
      view.scrollTop = end - (end / 300) * step;
      nodes = Math.max(nodes, document.getElementsByTagName('*').length);
      await painted();
    }
    watching = false;
    return { nodes, frames: [...frames], rows: count };
  }
};

(globalThis as unknown as { bench: typeof bench }).bench = bench;
