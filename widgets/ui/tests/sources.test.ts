import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { ProblemError, problemFrom } from '../src/model/problem';
import { HttpSource } from '../src/source/http';
import { ModelSource } from '../src/source/modelsource';
import type { WidgetModel } from '../src/source/comm';
import type { EventSink } from '../src/source/source';
import { event, task } from './fixtures';

/** A WebSocket whose server side is the test. */
class TestSocket {
  static readonly OPEN = 1;
  static all: TestSocket[] = [];
  readyState = TestSocket.OPEN;
  sent: unknown[] = [];
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;

  constructor(readonly url: string) {
    TestSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
  }

  deliver(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}

class TestModel implements WidgetModel {
  readonly sent: { id: number; method: string }[] = [];
  state: unknown = { project: { id: 'p1', name: 'calc' }, tasks: [task('t1')] };
  private readonly callbacks = new Map<string, Set<(content?: unknown) => void>>();

  selected: string | null = null;

  get(name: string): unknown {
    return name === '_state' ? this.state : name === 'selected' ? this.selected : 'auto';
  }

  send(content: unknown): void {
    this.sent.push(content as { id: number; method: string });
  }

  on(name: string, callback: (content?: unknown) => void): void {
    this.callbacks.set(name, (this.callbacks.get(name) ?? new Set()).add(callback));
  }

  off(name: string, callback: (content?: unknown) => void): void {
    this.callbacks.get(name)?.delete(callback);
  }

  emit(name: string, content?: unknown): void {
    this.callbacks.get(name)?.forEach(callback => callback(content));
  }
}

function recorder(): EventSink & { seqs: number[]; ended: boolean } {
  const record = {
    seqs: [] as number[],
    ended: false,
    events: (events: readonly { seq: number }[]) =>
      void record.seqs.push(...events.map(one => one.seq)),
    attempt: () => undefined,
    link: () => undefined,
    end: () => {
      record.ended = true;
    },
    failed: () => undefined
  };
  return record;
}

beforeEach(() => {
  vi.useFakeTimers();
  TestSocket.all = [];
  vi.stubGlobal('WebSocket', TestSocket);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('the event socket acknowledges, resumes after its last seq, and repeats nothing', () => {
  const source = new HttpSource({
    request: async () => null,
    httpUrl: path => `http://host/rootbound/${path}`,
    socketUrl: path => `ws://host/rootbound/${path}`
  });
  const sink = recorder();
  const stop = source.watchEvents('a1', 0, sink);
  const [first] = TestSocket.all;
  first?.deliver({ type: 'events', events: [event(1, 'LOG', {}), event(2, 'LOG', {})] });
  expect(first?.sent).toEqual([{ type: 'ack', seq: 2 }]);

  first?.onclose?.({ code: 1006 });
  vi.advanceTimersByTime(2_000);
  const second = TestSocket.all[1];
  expect(second?.url).toBe('ws://host/rootbound/ws/attempts/a1/?after=2');
  second?.deliver({ type: 'events', events: [event(2, 'LOG', {}), event(3, 'LOG', {})] });
  second?.deliver({ type: 'end', status: 'SUCCESS', last_seq: 3 });
  second?.onclose?.({ code: 1000 });
  vi.advanceTimersByTime(60_000);
  expect(sink.seqs).toEqual([1, 2, 3]);
  expect(sink.ended).toBe(true);
  expect(TestSocket.all).toHaveLength(2);
  stop();
});

test('a widget without a kernel becomes a snapshot, and refuses actions', async () => {
  const model = new TestModel();
  const source = new ModelSource(model);
  expect(model.sent).toMatchObject([{ id: 0, method: 'hello' }]);
  vi.advanceTimersByTime(2_001);
  expect(source.live.value).toBe(false);
  await expect(source.startAttempt('t1')).rejects.toMatchObject({ code: 'snapshot' });

  // The kernel was only busy: its late answer brings the view to life.
  model.emit('msg:custom', { reply_to: 0, ok: true, result: {} });
  expect(source.live.value).toBe(true);
  source.dispose();
});

test('replies settle the call they belong to', async () => {
  const model = new TestModel();
  const source = new ModelSource(model);
  model.emit('msg:custom', { reply_to: 0, ok: true, result: {} });
  const refused = source.startAttempt('t1');
  const accepted = source.cancelAttempt('a1');
  const [, start, cancel] = model.sent;
  model.emit('msg:custom', { reply_to: cancel?.id, ok: true, result: {} });
  model.emit('msg:custom', {
    reply_to: start?.id,
    ok: false,
    problem: { detail: 'Finish the other task first.', code: 'dependencies-open' }
  });
  await expect(accepted).resolves.toBeUndefined();
  await expect(refused).rejects.toMatchObject({ code: 'dependencies-open' });
  source.dispose();
});

test('a choice made in Python is shown, an answer to one’s own older choice is not', async () => {
  const model = new TestModel();
  const source = new ModelSource(model);
  const shown: (string | null)[] = [];
  const none = (): void => undefined;
  const selected = (id: string | null): number => shown.push(id);
  const stop = source.watchTasks('p1', {
    snapshot: none, task: none, deleted: none, link: none, failed: none, selected
  });
  const set = (id: string | null): void => {
    model.selected = id;
    model.emit('change:selected');
  };
  set('t1');
  expect(shown).toEqual([null, 't1']);
  source.selectTask('t2');
  source.selectTask('t3');
  const [first, second] = model.sent.filter(one => one.method === 'select');
  set('t2');
  model.emit('msg:custom', { reply_to: first?.id, ok: true, result: {} });
  await vi.waitFor(() => expect(shown).toEqual([null, 't1']));
  set('t3');
  model.emit('msg:custom', { reply_to: second?.id, ok: true, result: {} });
  await vi.waitFor(() => expect(shown).toEqual([null, 't1', 't3']));
  stop();
  source.dispose();
});

test('Jupyter’s own 404 means that the extension is absent, a problem’s 404 does not', () => {
  expect(problemFrom(404, { message: 'Not Found', reason: null }).code).toBe('absent');
  const own = problemFrom(404, { detail: 'No such task.', code: 'not-found' });
  expect(own).toBeInstanceOf(ProblemError);
  expect(own.code).toBe('not-found');
});

test('a stream opens at its end and tells how late it is', () => {
  const source = new HttpSource({
    request: async () => null,
    httpUrl: path => `http://host/rootbound/${path}`,
    socketUrl: path => `ws://host/rootbound/${path}`
  });
  const lags: number[] = [];
  const stop = source.watchEvents('a1', 0, { ...recorder(), lag: lag => void lags.push(lag) });
  const [socket] = TestSocket.all;
  expect(socket?.url).toBe('ws://host/rootbound/ws/attempts/a1/?tail=2000');
  socket?.deliver({ type: 'status', status: 'GATES', last_seq: 9 });
  socket?.deliver({ type: 'events', events: [event(8, 'LOG', {})], lag_s: 3.2 });
  socket?.deliver({ type: 'progress', last_seq: 9, sent_seq: 8 });
  socket?.deliver({ type: 'events', events: [event(9, 'LOG', {})] });
  expect(lags).toEqual([3.2, 0]);
  expect(socket?.sent).toEqual([
    { type: 'ack', seq: 8 },
    { type: 'ack', seq: 9 }
  ]);
  stop();
});

test('frames of the board are acknowledged by their number', () => {
  const source = new HttpSource({
    request: async () => null,
    httpUrl: path => `http://host/rootbound/${path}`,
    socketUrl: path => `ws://host/rootbound/${path}`
  });
  const deleted: string[] = [];
  const stop = source.watchTasks('p1', {
    snapshot: () => undefined,
    task: () => undefined,
    deleted: id => void deleted.push(id),
    link: () => undefined,
    failed: () => undefined
  });
  const [socket] = TestSocket.all;
  socket?.deliver({ type: 'snapshot', tasks: [], seq: 1 });
  socket?.deliver({ type: 'task_deleted', id: 't1', seq: 2 });
  expect(deleted).toEqual(['t1']);
  expect(socket?.sent).toEqual([
    { type: 'ack', seq: 1 },
    { type: 'ack', seq: 2 }
  ]);
  stop();
});

test('a search and what stands around a find are asked of the API by its own words', async () => {
  const asked: string[] = [];
  const source = new HttpSource({
    request: async (method, path) => {
      asked.push(`${method} ${path}`);
      return { results: [], previous: null, first_seq: 1 };
    },
    httpUrl: path => path,
    socketUrl: path => path
  });
  await source.searchEvents('a1', 'two words', 2001);
  await source.eventsAfter('a1', 1800, 400);
  expect(asked).toEqual([
    'GET api/attempts/a1/events/?q=two+words&before=2001&limit=100',
    'GET api/attempts/a1/events/?after=1800&limit=400'
  ]);
});
