import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { coloured } from '../src/model/ansi';
import { Output } from '../src/model/output';
import { mountAttemptStream } from '../src/mount';
import type { EventSink } from '../src/source/source';
import { StreamStore } from '../src/stores/stream';
import { FakeSource, attempt, event, eventually } from './fixtures';

let source: FakeSource;

beforeEach(() => {
  source = new FakeSource();
});

test('text of one step is one entry, and a repeated seq is dropped', () => {
  const store = new StreamStore(source, 'a1');
  store.receive([
    event(1, 'LOG', { kind: 'text', step: 1, delta: 'Hello ' }),
    event(2, 'LOG', { kind: 'text', step: 1, delta: 'world' })
  ]);
  store.receive([
    event(2, 'LOG', { kind: 'text', step: 1, delta: 'world' }),
    event(3, 'LOG', { kind: 'text', step: 1, delta: '!' }),
    event(4, 'LOG', { kind: 'text', step: 2, delta: 'Next' })
  ]);
  expect(store.items.map(item => ('text' in item ? item.text : item.kind))).toEqual([
    'Hello world!',
    'Next'
  ]);
  store.dispose();
});

test('a tool call takes in its output and result', () => {
  const store = new StreamStore(source, 'a1');
  store.receive([
    event(1, 'LOG', { kind: 'tool_call', step: 1, call_id: 'c1', tool: 'run_command', args: {} }),
    event(2, 'LOG', { kind: 'output', source: 'command:c1', stream: 'stdout', text: 'one\n' }),
    event(3, 'LOG', { kind: 'output', source: 'command:c1', stream: 'stdout', text: 'two\n' }),
    event(4, 'LOG', { kind: 'tool_result', step: 1, call_id: 'c1', tool: 'x', ok: false, text: 'no' })
  ]);
  expect(store.items).toHaveLength(1);
  expect(store.items[0]).toMatchObject({
    kind: 'tool',
    output: { text: 'one\ntwo\n' },
    result: { ok: false, text: 'no' }
  });
  store.dispose();
});

test('each run of a gate has its own evidence', () => {
  const store = new StreamStore(source, 'a1');
  const run = (seq: number, exit_code: number): ReturnType<typeof event>[] => [
    event(seq, 'LOG', { kind: 'gate_started', name: 'test', command: 'pytest' }),
    event(seq + 1, 'LOG', { kind: 'output', source: 'gate:test', text: `run ${seq}` }),
    event(seq + 2, 'ARTIFACT', { kind: 'gate', name: 'test', command: 'pytest', exit_code })
  ];
  store.receive([...run(1, 1), ...run(4, 0)]);
  expect(store.items).toMatchObject([
    { kind: 'gate', output: { text: 'run 1' }, evidence: { exit_code: 1 } },
    { kind: 'gate', output: { text: 'run 4' }, evidence: { exit_code: 0 } }
  ]);
  store.dispose();
});

test('a shortened state says how many events it leaves out', () => {
  const store = new StreamStore(source, 'a1');
  store.receive([event(41, 'LOG', { kind: 'notice', text: 'late' })]);
  expect(store.items).toMatchObject([{ kind: 'gap', text: '40' }, { kind: 'notice' }]);
  store.dispose();
});

test('what lies before the first events is read page by page', async () => {
  const store = new StreamStore(source, 'a1');
  source.eventsBefore = async (_id, seq) => ({
    first_seq: 3,
    results: [seq - 2, seq - 1]
      .filter(one => one >= 3)
      .map(one => event(one, 'LOG', { kind: 'notice', text: `line ${one}` }))
  });
  store.receive([event(6, 'LOG', { kind: 'notice', text: 'line 6' })]);
  const texts = (): unknown[] => store.items.map(item => ('text' in item ? item.text : item.kind));
  const [gap] = store.items;
  expect(gap && store.canReadBefore(gap)).toBe(true);
  await store.readEarlier();
  expect(texts()).toEqual(['1', 'line 4', 'line 5', 'line 6']);
  store.receive([event(7, 'LOG', { kind: 'notice', text: 'line 7' })]);
  await store.readEarlier();
  // Nothing is left out any more: the first two were removed long ago.
  expect(texts()).toEqual(['line 3', 'line 4', 'line 5', 'line 6', 'line 7']);
  expect(new Set(store.items.map(item => item.key)).size).toBe(5);
  store.dispose();
});

test('what the user told the agent, and what failed before, are entries', async () => {
  host = document.createElement('div');
  document.body.append(host);
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  source.eventSink?.events([
    event(1, 'LOG', { kind: 'user_message', text: 'Leave the parser alone' }),
    event(2, 'ARTIFACT', { kind: 'baseline', name: 'test', before: ['a'], new: ['test_two'] }),
    event(3, 'ARTIFACT', { kind: 'baseline', name: 'lint', before: [], new: [] })
  ]);
  await eventually(() =>
    expect(host?.textContent).toContain('You told the agent: Leave the parser alone')
  );
  expect(host.textContent).toContain('Gate test fails with this change alone in:test_two');
  expect(host.textContent).toContain('Gate lint was tried on the commit before this change.');
});

test('an unknown kind of event is passed over', () => {
  const store = new StreamStore(source, 'a1');
  store.receive([
    event(1, 'LOG', { kind: 'hologram', shape: 'cube' }),
    event(2, 'LOG', { kind: 'notice', text: 'still here' })
  ]);
  expect(store.items).toMatchObject([{ kind: 'notice', text: 'still here' }]);
  store.dispose();
});

test('output in any pieces is the same lines, each in the colour it begins with', () => {
  const text = 'plain\n\u001b[31mred\nstill red\u001b[0m\n10%\r50%\r100%\n';
  const whole = Output.of(text);
  const pieces = new Output();
  for (const letter of text) {
    pieces.append(letter);
  }
  for (const output of [whole, pieces]) {
    expect(output.count).toBe(4);
    expect(output.text).toBe(text);
    expect(
      output.lines.slice(0, 4).map((line, index) => coloured(line, output.styleOf(index)))
    ).toEqual([
      [{ text: 'plain', classes: '' }],
      [{ text: 'red', classes: 'ansi-red-fg' }],
      [{ text: 'still red', classes: 'ansi-red-fg' }],
      [{ text: '100%', classes: '' }]
    ]);
  }
});

let host: HTMLElement | null = null;
let unmount: (() => void) | null = null;

afterEach(() => {
  unmount?.();
  unmount = null;
  host?.remove();
  host = null;
});

test('a long stream keeps few rows in the document', async () => {
  host = document.createElement('div');
  document.body.append(host);
  source.current = attempt({ status: 'RUNNING' });
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  const sink = source.eventSink as EventSink;
  sink.events(
    Array.from({ length: 5000 }, (_, index) =>
      event(index + 1, 'LOG', { kind: 'notice', text: `line ${index}` })
    )
  );
  await eventually(() => expect(host?.querySelector('[data-row]')).not.toBeNull());
  expect(host.querySelectorAll('[data-row]').length).toBeLessThan(100);
});

test('a late stream says so until it has caught up', async () => {
  host = document.createElement('div');
  document.body.append(host);
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  const told = (): string => host?.querySelector('header')?.textContent ?? '';
  source.eventSink?.lag?.(75);
  await eventually(() => expect(told()).toContain('1 min 15 s behind'));
  source.eventSink?.lag?.(0);
  await eventually(() => expect(told()).not.toContain('behind'));

  // Nothing came since: what was late is here now.
  vi.useFakeTimers();
  try {
    source.eventSink?.lag?.(3);
    await vi.advanceTimersByTimeAsync(4000);
    expect(told()).toContain('3.0 s behind');
    await vi.advanceTimersByTimeAsync(2000);
    expect(told()).not.toContain('behind');
  } finally {
    vi.useRealTimers();
  }
});

test('a STATUS event brings the attempt’s new state into the header', async () => {
  host = document.createElement('div');
  document.body.append(host);
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  source.current = attempt({ status: 'REVIEW' });
  source.eventSink?.events([event(1, 'STATUS', { status: 'REVIEW' })]);
  await eventually(() => expect(host?.textContent).toContain('Waiting for review'));
  expect(host.textContent).toContain('Approve');
});

test('a tool’s long output keeps few lines in the document, and begins at its end', async () => {
  host = document.createElement('div');
  document.body.append(host);
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  const lines = Array.from({ length: 20_000 }, (_, index) => `line ${index}\n`);
  source.eventSink?.events([
    event(1, 'LOG', { kind: 'tool_call', step: 1, call_id: 'c1', tool: 'run_command', args: {} }),
    event(2, 'LOG', { kind: 'output', source: 'command:c1', text: lines.join('') }),
    event(3, 'LOG', { kind: 'output', source: 'command:c1', text: 'x'.repeat(5000) })
  ]);
  const head = (): HTMLElement | null | undefined =>
    host?.querySelector<HTMLElement>('.jp-rootbound-Fold-head');
  await eventually(() => expect(head()).not.toBeNull());
  head()?.click();
  const region = (): Element | null | undefined => host?.querySelector('[role="region"]');
  await eventually(() =>
    expect(region()?.getAttribute('aria-label')).toBe('output, 20001 lines')
  );
  expect(region()?.querySelectorAll('[data-row]').length).toBeLessThan(100);
});
