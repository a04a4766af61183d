import { afterEach, expect, test } from 'vitest';

import { coloured } from '../src/model/ansi';
import { Heights } from '../src/model/heights';
import { parsePatch } from '../src/model/patch';
import { ProblemError } from '../src/model/problem';
import { sideBySide } from '../src/model/sides';
import type { Task } from '../src/model/types';
import type { Decomposition, PlanTask } from '../src/model/work';
import { mountTaskBoard } from '../src/mount';
import { mountReview } from '../src/mount_review';
import type { TaskSink } from '../src/source/source';
import type { Work } from '../src/source/work';
import { depths, grouped, matches, moveOf } from '../src/stores/arrange';
import { PlanStore } from '../src/stores/plan';
import { filtered, transcript } from '../src/stores/transcript';
import { FakeSource, attempt, eventually, task } from './fixtures';

let unmount: (() => void) | null = null;

afterEach(() => {
  unmount?.();
  unmount = null;
  document.body.replaceChildren();
});

function decomposition(fields: Partial<Decomposition> = {}): Decomposition {
  return {
    id: 'd1',
    project: 'p1',
    user_prompt: 'Make it add',
    pm_response: '',
    plan: null,
    status: 'PENDING',
    failure: null,
    failure_message: null,
    tasks_created: [],
    auto_approve: false,
    created_at: '2026-01-01T00:00:00Z',
    ...fields
  };
}

function planned(key: string, fields: Partial<PlanTask> = {}): PlanTask {
  return { key, title: key, description: '', role: 'BACKEND', ...fields };
}

/** The part of `Work` that a test gives; everything else fails loudly. */
function work(part: Partial<Work>): Work {
  return new Proxy(part, {
    get: (target, name) =>
      (target as Record<string | symbol, unknown>)[name] ??
      (() => {
        throw new Error(`unexpected call of ${String(name)}`);
      })
  }) as Work;
}

test('tasks are found by words, grouped by role and by what they wait for', () => {
  const tasks = new Map<string, Task>(
    [
      task('a', { title: 'Parser', agent_role: 'BACKEND' }),
      task('b', { title: 'Page', agent_role: 'FRONTEND', dependencies: ['a'] }),
      task('c', { title: 'Check the page', agent_role: 'QA', dependencies: ['b', 'a'] })
    ].map(one => [one.id, one])
  );
  const all = [...tasks.values()];
  expect(all.filter(one => matches(one, ['page', 'qa'])).map(one => one.id)).toEqual(['c']);
  expect([...depths(tasks)]).toEqual([['a', 0], ['b', 1], ['c', 2]]);
  expect(grouped(all, 'order', depths(tasks)).map(group => group.heading)).toEqual([0, 1, 2]);
  expect(grouped(all, 'role', new Map()).map(group => group.heading)).toEqual([
    'BACKEND',
    'FRONTEND',
    'QA'
  ]);
  // A cycle that was half delivered does not hang the page.
  const cycle = new Map([
    ['a', task('a', { dependencies: ['b'] })],
    ['b', task('b', { dependencies: ['a'] })]
  ]);
  expect(depths(cycle).size).toBe(2);
});

test('a card that is moved does what the column means', () => {
  expect(moveOf(task('a'), 'IN_PROGRESS', false)).toBe('start');
  expect(moveOf(task('a'), 'IN_PROGRESS', true)).toBeNull();
  expect(moveOf(task('a', { status: 'REVIEW' }), 'DONE', false)).toBe('approve');
  expect(moveOf(task('a', { status: 'REVIEW' }), 'TODO', false)).toBe('reject');
  expect(moveOf(task('a', { status: 'IN_PROGRESS' }), 'TODO', false)).toBe('cancel');
  expect(moveOf(task('a'), 'DONE', false)).toBeNull();
});

test('a plan is waited for, edited and approved as edited', async () => {
  const calls: unknown[] = [];
  const ready = decomposition({
    status: 'READY',
    plan: { summary: '', tasks: [planned('one'), planned('two', { depends_on: ['one'] })] }
  });
  const store = new PlanStore(
    work({
      listPlans: async () => [],
      plan: async (_project, prompt) => {
        calls.push(prompt);
        return decomposition();
      },
      getPlan: async () => ready,
      approvePlan: async (id, tasks) => {
        calls.push(id, tasks);
        return decomposition({ status: 'APPROVED' });
      }
    }),
    'p1'
  );
  await store.open();
  store.prompt.value = '  Make it add ';
  await store.ask();
  await eventually(() => expect(store.tasks.value.length).toBe(2));
  store.add();
  store.change(2, { title: 'Three', depends_on: ['one'] });
  store.move(2, -1);
  store.remove(0);
  expect(await store.approve()).toBe(true);
  expect(calls).toEqual([
    'Make it add',
    'd1',
    [
      { key: 'task-3', title: 'Three', description: '', role: 'BACKEND', depends_on: [] },
      planned('two', { depends_on: [] })
    ]
  ]);
  store.dispose();
});

test('what was typed into a task stays when somebody else was first', async () => {
  const host = document.createElement('div');
  document.body.append(host);
  const source = new FakeSource();
  const seen: number[] = [];
  unmount = mountTaskBoard(host, source, {
    work: work({
      updateTask: async (one, fields) => {
        seen.push(one.version);
        if (one.version === 1) {
          throw new ProblemError('Somebody changed it.', 'version-conflict', 409);
        }
        return { ...one, ...fields };
      }
    })
  });
  await eventually(() => expect(source.taskSink).not.toBeNull());
  const sink = source.taskSink as TaskSink;
  sink.snapshot([task('t1')]);
  const button = (text: string): HTMLButtonElement | undefined =>
    [...host.querySelectorAll('button')].find(
      one => one.textContent === text || one.getAttribute('aria-label') === text
    );
  await eventually(() => expect(button('Change the task')).toBeDefined());
  button('Change the task')?.click();
  await eventually(() => expect(host.querySelector('form')).not.toBeNull());
  const title = host.querySelector('form input') as HTMLInputElement;
  title.value = 'Mine';
  title.dispatchEvent(new Event('input', { bubbles: true }));
  sink.task(task('t1', { title: 'Theirs', version: 2 }));
  const submit = (): boolean | undefined =>
    host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  await eventually(() => expect(host.textContent).toContain('Theirs'));
  submit();
  await eventually(() => expect(host.textContent).toContain('it is “Theirs” now'));
  expect((host.querySelector('form input') as HTMLInputElement).value).toBe('Mine');
  button('Save mine over it')?.click();
  await eventually(() => expect(host.textContent).not.toContain('it is “Theirs” now'));
  submit();
  await eventually(() => expect(host.querySelector('form')).toBeNull());
  expect(seen).toEqual([1, 2]);
});

test('a review takes a comment on a line and starts the attempt that goes on', async () => {
  const host = document.createElement('div');
  document.body.append(host);
  const opened: string[] = [];
  const said: unknown[] = [];
  const patch = '--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n one\n+two\n';
  unmount = mountReview(
    host,
    work({
      getAttempt: async () => attempt({ status: 'REVIEW', head_commit: 'bbb' }),
      getDiff: async () => ({
        base: 'aaa',
        head: 'bbb',
        stats: { files: 1, additions: 1, deletions: 0 },
        files: [
          {
            path: 'x',
            old_path: null,
            status: 'modified',
            additions: 1,
            deletions: 0,
            binary: false,
            patch,
            truncated: false
          }
        ]
      }),
      listComments: async () => [],
      mergePreview: async () => ({
        base_branch: 'main',
        base: 'aaa',
        head: 'bbb',
        behind: 0,
        clean: false,
        merged: false,
        files: ['x'],
        checkout: null,
        checkout_dirty: false
      }),
      compare: async () => [],
      addComment: async (_id, place, text) => {
        said.push(place, text);
        const made = { id: 'c1', attempt: 'a1', author: 'ada', commit: 'bbb', text };
        return { ...made, ...place, created_at: '2026-01-01T00:00:00Z' };
      },
      requestChanges: async (_id, feedback) => {
        said.push(feedback);
        return attempt({ id: 'a2' });
      }
    }),
    'a1',
    { openAttempt: id => opened.push(id) }
  );
  const press = (text: string): void => {
    const found = [...host.querySelectorAll('button')].find(
      one => one.textContent === text || one.getAttribute('aria-label') === text
    );
    expect(found, text).toBeDefined();
    expect(found?.disabled, text).toBe(false);
    found?.click();
  };
  await eventually(() => expect(host.textContent).toContain('conflicts with “main”'));
  press('Comment on line 2');
  await eventually(() => expect(host.querySelector('textarea')).not.toBeNull());
  const area = host.querySelector('textarea') as HTMLTextAreaElement;
  area.value = 'Why?';
  area.dispatchEvent(new Event('input', { bubbles: true }));
  await eventually(() => press('Comment'));
  host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  await eventually(() => expect(host.textContent).toContain('Why?'));
  press('Request changes…');
  await eventually(() => expect(host.textContent).toContain('your 1 comment as well'));
  host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  await eventually(() => expect(opened).toEqual(['a2']));
  expect(said).toEqual([{ path: 'x', side: 'new', line: 2 }, 'Why?', '']);
});

test('removed lines stand beside those that take their place', () => {
  const lines = parsePatch('@@ -1,3 +1,2 @@\n same\n-old\n-gone\n+new\n');
  expect(sideBySide(lines).map(row => [row.before?.text ?? null, row.after?.text ?? null])).toEqual([
    ['@@ -1,3 +1,2 @@', '@@ -1,3 +1,2 @@'],
    ['same', 'same'],
    ['old', 'new'],
    ['gone', null]
  ]);
});

test('terminal colours become classes, and nothing else of the terminal is left', () => {
  const text = 'a\u001b[1;31mred\u001b[0m\u001b[2K b\u001b[38;5;9m c\r\n50%\r100%';
  expect(coloured(text)).toEqual([
    { text: 'a', classes: '' },
    { text: 'red', classes: 'ansi-red-fg ansi-bold' },
    { text: ' b', classes: '' },
    { text: ' c\n100%', classes: '' }
  ]);
});

test('a stream is filtered by kind and words, and kept as text', () => {
  const timestamp = '2026-01-01T00:00:00Z';
  const items = [
    { kind: 'text', key: 1, timestamp, step: 1, text: 'I look at the parser.' },
    { kind: 'error', key: 2, timestamp, text: 'It broke', more: ['badly'] }
  ] as const;
  expect(filtered(items, 'all', '')).toBe(items);
  expect(filtered(items, 'problems', '').map(item => item.key)).toEqual([2]);
  expect(filtered(items, 'all', 'parser LOOK').map(item => item.key)).toEqual([1]);
  expect(transcript(items)).toContain('It broke\nbadly');
});

test('heights of a million rows are found without looking at each', () => {
  const heights = new Heights(30);
  const keyAt = (index: number): number => index;
  heights.sync(1_000_000, keyAt);
  expect(heights.top(1_000_000)).toBe(30_000_000);
  expect(heights.set(10, 100)).toBe(true);
  expect(heights.set(10, 100)).toBe(false);
  heights.set(500_000, 20);
  expect(heights.top(10)).toBe(300);
  expect(heights.top(11)).toBe(400);
  expect(heights.top(1_000_000)).toBe(30_000_060);
  expect(heights.rowAt(399)).toBe(10);
  expect(heights.rowAt(400)).toBe(11);
  expect(heights.rowAt(1e9)).toBe(999_999);
  // Rows are added: what is known stays. Another list: nothing of the old one is left.
  heights.sync(1_500_000, keyAt);
  expect(heights.top(1_500_000)).toBe(45_000_060);
  heights.sync(3, index => `other ${index}`);
  expect(heights.top(3)).toBe(90);
});

test('a key leads to a card that was not drawn yet', async () => {
  const host = document.createElement('div');
  document.body.append(host);
  const source = new FakeSource();
  unmount = mountTaskBoard(host, source);
  await eventually(() => expect(source.taskSink).not.toBeNull());
  const ids = Array.from({ length: 2000 }, (_, index) => `t${String(index).padStart(4, '0')}`);
  (source.taskSink as TaskSink).snapshot(
    ids.map((id, index) => task(id, { priority: 2000 - index }))
  );
  const drawn = (): number => host.querySelectorAll('[data-task]').length;
  await eventually(() => expect(drawn()).toBeGreaterThan(5));
  expect(drawn()).toBeLessThan(40);
  const first = host.querySelector<HTMLElement>('[data-task]');
  first?.focus();
  first?.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true }));
  await eventually(() =>
    expect((document.activeElement as HTMLElement | null)?.dataset['task']).toBe('t1999')
  );
  expect(document.activeElement?.getAttribute('aria-posinset')).toBe('2000');
  expect(drawn()).toBeLessThan(40);
});
