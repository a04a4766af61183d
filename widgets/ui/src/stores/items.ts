import { Output } from '../model/output';
import type { AttemptEvent, Gate } from '../model/types';

interface Base {
  /** seq of the event that began the item; unique and stable. */
  readonly key: number;
  readonly timestamp: string;
}

export interface TextItem extends Base {
  readonly kind: 'text' | 'thinking';
  readonly step: number;
  text: string;
}

export interface ToolItem extends Base {
  readonly kind: 'tool';
  readonly callId: string;
  readonly tool: string;
  readonly args: { readonly [key: string]: unknown };
  readonly output: Output;
  result: { ok: boolean; text: string; duration_s: number | null } | null;
}

export interface GateItem extends Base {
  readonly kind: 'gate';
  readonly name: string;
  command: string;
  readonly output: Output;
  evidence: Gate | null;
}

export interface LineItem extends Base {
  readonly kind:
    | 'status'
    | 'notice'
    | 'error'
    | 'retry'
    | 'commit'
    | 'enforcement'
    | 'access'
    | 'said'
    | 'baseline'
    | 'gap';
  readonly text: string;
  /** Further lines, shown beneath: what enforcement lacks, a failure's message. */
  readonly more: readonly string[];
  /** Of enforcement: the folders that the run may write in. */
  writable?: readonly string[];
}

export type Item = TextItem | ToolItem | GateItem | LineItem;

type Payload = AttemptEvent['payload'];

function str(payload: Payload, key: string): string {
  const value = payload[key];
  return typeof value === 'string' ? value : '';
}

function num(payload: Payload, key: string): number | null {
  const value = payload[key];
  return typeof value === 'number' ? value : null;
}

/**
 * Folds an attempt's events into what a reader sees.
 *
 * Text of one step becomes one paragraph, a tool's call, output and result one foldable entry,
 * a gate's start, output and evidence one entry. Items are changed in place; `add` returns true
 * when anything visible changed.
 */
export class ItemBuilder {
  readonly items: Item[] = [];
  usage: Payload | null = null;
  /** The entry that the last event with one went into. */
  touched: Item | null = null;
  private readonly calls = new Map<string, ToolItem>();
  private readonly gates = new Map<string, GateItem>();

  add(event: AttemptEvent): boolean {
    const { payload } = event;
    switch (event.type) {
      case 'LOG':
        return this.log(event, str(payload, 'kind'));
      case 'ERROR':
        return this.line(event, 'error', str(payload, 'message'));
      case 'ARTIFACT':
        return this.artifact(event, str(payload, 'kind'));
      case 'STATUS':
        return this.status(event);
      default:
        return false;
    }
  }

  /** Mark that events between two deliveries are not shown. */
  gap(before: AttemptEvent, missing: number): void {
    const { timestamp, seq } = before;
    this.items.push({ kind: 'gap', key: seq - 0.5, timestamp, text: String(missing), more: [] });
  }

  /** Put earlier events in front; `missing` ones before them are still not shown. */
  prepend(events: readonly AttemptEvent[], missing: number): void {
    const earlier = new ItemBuilder();
    const [first] = events;
    if (first && missing > 0) {
      earlier.gap(first, missing);
    }
    for (const event of events) {
      earlier.add(event);
    }
    const replaced = this.items[0]?.kind === 'gap' ? 1 : 0;
    this.items.splice(0, replaced, ...earlier.items);
  }

  private log(event: AttemptEvent, kind: string): boolean {
    const { payload } = event;
    switch (kind) {
      case 'text':
      case 'thinking':
        return this.text(event, kind);
      case 'tool_call':
        return this.toolCall(event);
      case 'tool_result':
        return this.toolResult(event);
      case 'output':
        return this.output(event, str(payload, 'source'), str(payload, 'text'));
      case 'gate_started':
        this.gate(event, str(payload, 'name'), str(payload, 'command'));
        return true;
      case 'usage':
        this.usage = payload;
        return true;
      case 'retry':
        return this.line(event, 'retry', str(payload, 'reason'));
      case 'enforcement':
        this.line(event, 'enforcement', str(payload, 'tier'), strings(payload['missing']));
        return this.writable(strings(payload['writable']));
      case 'access':
        return this.line(event, 'access', str(payload, 'text'));
      case 'user_message':
        return this.line(event, 'said', str(payload, 'text'));
      case 'notice':
        return this.line(event, 'notice', str(payload, 'text'));
      default:
        return false;
    }
  }

  private text(event: AttemptEvent, kind: 'text' | 'thinking'): boolean {
    const step = num(event.payload, 'step') ?? 0;
    const delta = str(event.payload, 'delta');
    const last = this.items[this.items.length - 1];
    if (last && last.kind === kind && last.step === step) {
      last.text += delta;
      this.touched = last;
      return true;
    }
    return this.push({ kind, key: event.seq, timestamp: event.timestamp, step, text: delta });
  }

  private toolCall(event: AttemptEvent): boolean {
    const { payload } = event;
    const args = payload['args'];
    const item: ToolItem = {
      kind: 'tool',
      key: event.seq,
      timestamp: event.timestamp,
      callId: str(payload, 'call_id'),
      tool: str(payload, 'tool'),
      args: typeof args === 'object' && args !== null ? (args as ToolItem['args']) : {},
      output: new Output(),
      result: null
    };
    this.calls.set(item.callId, item);
    return this.push(item);
  }

  private toolResult(event: AttemptEvent): boolean {
    const { payload } = event;
    const callId = str(payload, 'call_id');
    if (!this.calls.has(callId)) {
      // The call itself lies before what was delivered.
      this.toolCall(event);
    }
    const item = this.calls.get(callId);
    if (item) {
      item.result = {
        ok: payload['ok'] === true,
        text: str(payload, 'text'),
        duration_s: num(payload, 'duration_s')
      };
      this.touched = item;
    }
    return true;
  }

  private output(event: AttemptEvent, source: string, text: string): boolean {
    const colon = source.indexOf(':');
    const name = source.slice(colon + 1);
    const item = source.startsWith('gate:')
      ? (this.gates.get(name) ?? this.gate(event, name, ''))
      : this.calls.get(name);
    if (!item) {
      return this.line(event, 'notice', text);
    }
    item.output.append(text);
    this.touched = item;
    return true;
  }

  private gate(event: AttemptEvent, name: string, command: string): GateItem {
    const item: GateItem = {
      kind: 'gate',
      key: event.seq,
      timestamp: event.timestamp,
      name,
      command,
      output: new Output(),
      evidence: null
    };
    this.gates.set(name, item);
    this.push(item);
    return item;
  }

  private artifact(event: AttemptEvent, kind: string): boolean {
    const { payload } = event;
    if (kind === 'gate') {
      const name = str(payload, 'name');
      const open = this.gates.get(name);
      const item = open && !open.evidence ? open : this.gate(event, name, str(payload, 'command'));
      item.command ||= str(payload, 'command');
      item.evidence = payload as unknown as Gate;
      this.touched = item;
      return true;
    }
    if (kind === 'baseline') {
      return this.line(event, 'baseline', str(payload, 'name'), strings(payload['new']));
    }
    if (kind === 'commit') {
      return this.line(event, 'commit', str(payload, 'commit'), [str(payload, 'message')]);
    }
    return false;
  }

  private status(event: AttemptEvent): boolean {
    const { payload } = event;
    const failure = str(payload, 'failure');
    const more = [str(payload, 'message')].filter(Boolean);
    const text = failure ? `${str(payload, 'status')} · ${failure}` : str(payload, 'status');
    return this.line(event, 'status', text, more);
  }

  private writable(folders: readonly string[]): boolean {
    const last = this.items[this.items.length - 1];
    if (last?.kind === 'enforcement') {
      last.writable = folders;
    }
    return true;
  }

  private line(
    event: AttemptEvent,
    kind: LineItem['kind'],
    text: string,
    more: readonly string[] = []
  ): boolean {
    return this.push({ kind, key: event.seq, timestamp: event.timestamp, text, more });
  }

  private push(item: Item): boolean {
    this.items.push(item);
    this.touched = item;
    return true;
  }
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(part => typeof part === 'string') : [];
}
