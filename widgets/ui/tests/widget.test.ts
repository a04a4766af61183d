/** A view in a notebook's cell: its traits, its language, its colours, its keys. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import stream from '../src/widgets/attempt_stream';
import diff from '../src/widgets/diff_view';
import board from '../src/widgets/task_board';
import { PROJECT, attempt, event, eventually } from './fixtures';

/** A model that answers as the Python side does. */
class Model {
  readonly sent: { id: number; method: string; params: { [key: string]: unknown } }[] = [];
  readonly saved: { [name: string]: unknown }[] = [];
  private readonly heard = new Map<string, Set<(content?: unknown) => void>>();
  /** Why the next thing written is refused. */
  refusal: { [key: string]: unknown } | null = null;
  /** Whether there is no kernel. */
  isSilent = false;
  private unsaved: { [name: string]: unknown } = {};

  constructor(readonly traits: { [name: string]: unknown }) {}

  get(name: string): unknown {
    return this.traits[name];
  }

  set(name: string, value: unknown): void {
    this.traits[name] = this.unsaved[name] = value;
  }

  save_changes(): void {
    this.saved.push(this.unsaved);
    this.unsaved = {};
  }

  send(content: unknown): void {
    const message = content as Model['sent'][number];
    this.sent.push(message);
    if (this.isSilent) {
      return;
    }
    const answers: { [method: string]: unknown } = {
      hello: {},
      access_requests: [],
      read: /attempts\/a1\/$/.test(String(message.params['path']))
        ? (this.traits['_state'] as { attempt: unknown }).attempt
        : { results: [] },
      write: {},
      search_events: { results: [], previous: null },
      catalogue: {
        plurals: [2, 0, 1, ...Array.from({ length: 197 }, () => 2)],
        messages: { Everything: ['Wszystko'], '%1 entry': ['%1 wpis', '%1 wpisy', '%1 wpisów'] }
      }
    };
    const { refusal } = this;
    if (message.method === 'write') {
      this.refusal = null;
    }
    const reply =
      message.method === 'write' && refusal
        ? { reply_to: message.id, ok: false, problem: refusal }
        : { reply_to: message.id, ok: true, result: answers[message.method] };
    queueMicrotask(() => this.emit('msg:custom', reply));
  }

  on(name: string, callback: (content?: unknown) => void): void {
    this.heard.set(name, (this.heard.get(name) ?? new Set()).add(callback));
  }

  off(name: string, callback: (content?: unknown) => void): void {
    this.heard.get(name)?.delete(callback);
  }

  emit(name: string, content?: unknown): void {
    for (const one of [...(this.heard.get(name) ?? [])]) {
      one(content);
    }
  }

  change(name: string, value: unknown): void {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }

  get listeners(): number {
    return [...this.heard.values()].reduce((sum, all) => sum + all.size, 0);
  }
}

let cell: HTMLElement;
let dispose: (() => void) | null = null;

beforeEach(() => {
  cell = document.createElement('div');
  document.body.append(cell);
});

afterEach(() => {
  dispose?.();
  dispose = null;
  cell.remove();
  document.documentElement.lang = '';
  vi.restoreAllMocks();
});

function shown(traits: { [name: string]: unknown } = {}): Model {
  const events = [41, 42, 43].map(seq => event(seq, 'LOG', { kind: 'notice', text: `line ${seq}` }));
  const model = new Model({
    _state: { attempt: attempt({ status: 'REVIEW', first_seq: 1, last_seq: 43 }), events },
    theme: 'auto',
    locale: 'auto',
    search: '',
    show: 'all',
    ...traits
  });
  dispose = stream.render({ model, el: cell });
  return model;
}

const field = (): HTMLInputElement | null =>
  cell.querySelector<HTMLInputElement>('input[type="search"]');

test('what is looked for is set from Python and told to it, and looked for beyond the cell', async () => {
  const model = shown({ search: 'line 42' });
  await eventually(() => expect(field()?.value).toBe('line 42'));
  expect(cell.textContent).toContain('1 entry');
  await eventually(() =>
    expect(model.sent.map(({ method, params }) => [method, params['before']])).toContainEqual([
      'search_events',
      41
    ])
  );
  expect(model.saved).toEqual([]);
  model.change('search', 'line');
  await eventually(() => expect(cell.textContent).toContain('3 entries'));
  const input = field() as HTMLInputElement;
  input.value = 'line 43';
  input.dispatchEvent(new Event('input', { bubbles: true }));
  await eventually(() => expect(model.saved).toEqual([{ search: 'line 43', show: 'all' }]));
  model.change('show', 'no such kind');
  expect(cell.querySelector('select')?.value).toBe('all');
  dispose?.();
  dispose = null;
  expect(model.listeners).toBe(0);
});

test('a view speaks the language of its page, or the one it is told', async () => {
  document.documentElement.lang = 'pl-PL';
  const model = shown({ search: 'line' });
  await eventually(() => expect(cell.textContent).toContain('Wszystko'));
  expect(cell.textContent).toContain('3 wpisów');
  expect(cell.textContent).toContain('Gates');
  const asked = (): unknown[] =>
    model.sent.filter(one => one.method === 'catalogue').map(one => one.params['language']);
  expect(asked()).toEqual(['pl-PL']);
  model.change('search', 'line 42');
  await eventually(() => expect(cell.textContent).toContain('1 wpis'));
  model.change('locale', 'en_GB');
  await eventually(() => expect(cell.textContent).toContain('Everything'));
  // Of English there is nothing to ask.
  expect(asked()).toEqual(['pl-PL']);
});

test('a view has the colours of the page around it, and of its theme when it is given one', async () => {
  cell.style.color = 'rgb(230, 230, 230)';
  const model = shown();
  const colours = (): string | undefined =>
    cell.querySelector<HTMLElement>('.jp-rootbound-Widget')?.dataset['theme'];
  expect(colours()).toBe('dark');
  cell.style.color = 'rgb(20, 20, 20)';
  document.documentElement.setAttribute('data-changed', 'yes');
  await eventually(() => expect(colours()).toBe('light'));
  document.documentElement.removeAttribute('data-changed');
  model.change('theme', 'dark');
  expect(colours()).toBe('dark');
});

test('a notebook’s keys of one stroke are the view’s while it has the focus', () => {
  shown();
  const outside = document.createElement('button');
  cell.append(outside);
  const pressed = (init: KeyboardEventInit, target = cell.querySelector('section')): boolean => {
    target?.dispatchEvent(new KeyboardEvent('keydown', { ...init, bubbles: true }));
    return target?.hasAttribute('data-lm-suppress-shortcuts') ?? false;
  };
  expect(pressed({ key: 'd' }, outside)).toBe(false);
  expect(pressed({ key: 'd' })).toBe(true);
  expect(pressed({ key: 's', ctrlKey: true })).toBe(false);
  expect(pressed({ key: 'Enter' })).toBe(true);
  expect(pressed({ key: 'Enter', shiftKey: true })).toBe(false);
});

test('a task is made in a cell, and a refusal is told at its field', async () => {
  const model = new Model({ _state: { project: PROJECT, tasks: [] }, theme: 'auto', locale: 'auto' });
  dispose = board.render({ model, el: cell });
  const button = (text: string): HTMLButtonElement | undefined =>
    [...cell.querySelectorAll('button')].find(one => one.textContent === text);
  await eventually(() => expect(button('New task')).toBeDefined());
  expect(cell.querySelector('[aria-label="New project"]')).toBeNull();
  button('New task')?.click();
  await eventually(() => expect(cell.querySelector('form input')).not.toBeNull());
  const title = cell.querySelector('form input') as HTMLInputElement;
  title.value = 'From a cell';
  title.dispatchEvent(new Event('input', { bubbles: true }));
  const errors = { title: ['This title is taken.'] };
  model.refusal = { detail: 'Not so.', code: 'invalid', status: 400, errors };
  const submit = (): boolean | undefined =>
    cell.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  submit();
  await eventually(() => expect(cell.textContent).toContain('This title is taken.'));
  expect((cell.querySelector('form input') as HTMLInputElement).value).toBe('From a cell');
  submit();
  await eventually(() => expect(cell.querySelector('form')).toBeNull());
  const written = model.sent.filter(one => one.method === 'write').map(one => one.params);
  expect(written).toHaveLength(2);
  expect(written[1]).toMatchObject({
    method: 'POST',
    path: 'api/projects/p1/tasks/',
    body: { title: 'From a cell' }
  });
});

test('a saved review shows its changes without a kernel, and offers no decision', async () => {
  vi.useFakeTimers();
  try {
    const stats = { files: 1, additions: 1, deletions: 0 };
    const file = {
      path: 'x', old_path: null, status: 'modified', additions: 1, deletions: 0, binary: false,
      patch: '--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n one\n+two\n', truncated: false
    };
    const saved = attempt({ status: 'REVIEW', head_commit: 'bbb' });
    const model = new Model({
      _state: { attempt: saved, diff: { base: 'aaa', head: 'bbb', stats, files: [file] } },
      review: true,
      theme: 'auto',
      locale: 'auto'
    });
    model.isSilent = true;
    dispose = diff.render({ model, el: cell });
    await vi.advanceTimersByTimeAsync(2500);
    expect(cell.textContent).toContain('snapshot');
    expect(cell.textContent).toContain('1 file changed');
    expect(cell.textContent).toContain('two');
    const buttons = [...cell.querySelectorAll('button')].map(one => one.textContent);
    expect(buttons).not.toContain('Approve and merge');
    // A kernel that was only busy answers late: then it can be decided.
    model.isSilent = false;
    model.emit('msg:custom', { reply_to: 0, ok: true, result: {} });
    await vi.advanceTimersByTimeAsync(5000);
    expect([...cell.querySelectorAll('button')].map(one => one.textContent)).toContain('Reject…');
  } finally {
    vi.useRealTimers();
  }
});
