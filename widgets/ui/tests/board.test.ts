import { afterEach, beforeEach, expect, test } from 'vitest';

import { ProblemError } from '../src/model/problem';
import { mountTaskBoard } from '../src/mount';
import type { TaskSink } from '../src/source/source';
import { FakeSource, attempt, eventually, task } from './fixtures';

let host: HTMLElement;
let source: FakeSource;
let unmount: (() => void) | null = null;

beforeEach(() => {
  host = document.createElement('div');
  document.body.append(host);
  source = new FakeSource();
});

afterEach(() => {
  unmount?.();
  unmount = null;
  host.remove();
});

async function opened(): Promise<TaskSink> {
  await eventually(() => expect(source.taskSink).not.toBeNull());
  return source.taskSink as TaskSink;
}

function column(status: string): string[] {
  const cards = host.querySelectorAll(`.jp-rootbound-Column[data-status="${status}"] [data-task]`);
  return [...cards].map(card => card.getAttribute('data-task') ?? '');
}

function button(id: string, text: string): HTMLButtonElement | undefined {
  const buttons = host.querySelectorAll<HTMLButtonElement>(`[data-task="${id}"] button`);
  return [...buttons].find(one => one.textContent === text);
}

test('a task message moves its card to the new column', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1'), task('t2', { priority: 3 })]);
  await eventually(() => expect(column('TODO')).toEqual(['t2', 't1']));

  sink.task(task('t1', { status: 'REVIEW', latest_attempt: attempt({ status: 'REVIEW' }) }));
  await eventually(() => expect(column('REVIEW')).toEqual(['t1']));
  expect(column('TODO')).toEqual(['t2']);
  expect(host.textContent).toContain('replayed model');

  sink.deleted('t2');
  await eventually(() => expect(column('TODO')).toEqual([]));
});

test('a blocked task names what it waits for and cannot start until that is done', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([
    task('t1', { title: 'Parser' }),
    task('t2', { dependencies: ['t1'], blocked_by: ['t1'] })
  ]);
  await eventually(() => expect(host.textContent).toContain('Blocked by: Parser'));
  expect(button('t2', 'Start')?.disabled).toBe(true);

  sink.task(task('t1', { title: 'Parser', status: 'DONE' }));
  await eventually(() => expect(button('t2', 'Start')?.disabled).toBe(false));
  button('t2', 'Start')?.click();
  await eventually(() => expect(source.calls).toContain('start t2 at 1'));
});

test('a refused action shows the problem’s sentence and leaves the board usable', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1')]);
  await eventually(() => expect(button('t1', 'Start')).toBeDefined());

  source.problem = new ProblemError('This task already has a live attempt.', 'attempt-live', 409);
  button('t1', 'Start')?.click();
  await eventually(() =>
    expect(host.querySelector('.jp-rootbound-Banner')?.textContent).toContain('already has a live')
  );
  expect(button('t1', 'Start')?.disabled).toBe(false);
});

test('starting services are announced calmly and the board opens by itself', async () => {
  source.problem = new ProblemError('The stack is starting.', 'stack-starting', 503, 0);
  unmount = mountTaskBoard(host, source);
  await eventually(() => expect(source.calls).toContain('watchTasks p1'));
  expect(source.calls.filter(call => call === 'listProjects')).toHaveLength(2);
  expect(host.querySelector('[role="alert"]')).toBeNull();
});

test('stopped services are started from the banner', async () => {
  source.problem = new ProblemError('The stack is not running.', 'stack-stopped', 503, 60);
  unmount = mountTaskBoard(host, source);
  await eventually(() => expect(host.textContent).toContain('The stack is not running.'));
  [...host.querySelectorAll('button')].find(one => one.textContent?.startsWith('Start'))?.click();
  await eventually(() => expect(source.calls).toContain('watchTasks p1'));
  expect(source.calls).toContain('startStack');
});

test('arrow keys move between cards and columns, Enter opens the attempt', async () => {
  const openedAttempts: string[] = [];
  unmount = mountTaskBoard(host, source, { openAttempt: id => openedAttempts.push(id) });
  const sink = await opened();
  sink.snapshot([
    task('t1', { priority: 2 }),
    task('t2', { priority: 1 }),
    task('t3', { status: 'DONE', latest_attempt: attempt({ id: 'a3', status: 'SUCCESS' }) })
  ]);
  await eventually(() => expect(column('DONE')).toEqual(['t3']));

  const press = (key: string): void => {
    document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  };
  const focused = (): string | null | undefined =>
    document.activeElement?.getAttribute('data-task');
  host.querySelector<HTMLElement>('[data-task="t1"]')?.focus();
  press('ArrowDown');
  expect(focused()).toBe('t2');
  press('ArrowRight');
  expect(focused()).toBe('t3');
  press('Enter');
  expect(openedAttempts).toEqual(['a3']);
});

test('a rejection asks for its reason', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1', { status: 'REVIEW', latest_attempt: attempt({ status: 'REVIEW' }) })]);
  await eventually(() => expect(button('t1', 'Reject…')).toBeDefined());
  button('t1', 'Reject…')?.click();
  await eventually(() => expect(host.querySelector('form input')).not.toBeNull());

  const input = host.querySelector('form input') as HTMLInputElement;
  input.value = 'Handle negative numbers';
  input.dispatchEvent(new Event('input', { bubbles: true }));
  await eventually(() => expect(button('t1', 'Reject')?.disabled).toBe(false));
  host
    .querySelector('form')
    ?.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true }));
  await eventually(() => expect(source.calls).toContain('reject a1: Handle negative numbers'));
});

test('a snapshot is labelled and offers no action', async () => {
  source.live.value = false;
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1')]);
  await eventually(() => expect(host.textContent).toContain('snapshot'));
  await eventually(() => expect(button('t1', 'Start')?.disabled).toBe(true));
});

test('a task that a notebook chose is marked, and the keyboard goes on from it', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1', { priority: 2 }), task('t2', { priority: 1 })]);
  const chosen = (): (string | null)[] =>
    [...host.querySelectorAll('[aria-current="true"]')].map(card => card.getAttribute('data-task'));
  await eventually(() => expect(column('TODO')).toEqual(['t1', 't2']));
  expect(chosen()).toEqual([]);
  sink.selected?.('t2');
  await eventually(() => expect(chosen()).toEqual(['t2']));
  expect(host.querySelector('[data-task="t2"]')?.getAttribute('tabindex')).toBe('0');
  host.querySelector<HTMLElement>('[data-task="t1"]')?.focus();
  await eventually(() => expect(chosen()).toEqual(['t1']));
  expect(source.calls).toContain('select t1');
  sink.selected?.(null);
  await eventually(() => expect(chosen()).toEqual([]));
});

test('a move that came too late is explained, and made of the task as it is now if that is wanted', async () => {
  unmount = mountTaskBoard(host, source);
  const sink = await opened();
  sink.snapshot([task('t1', { title: 'Parser' })]);
  await eventually(() => expect(button('t1', 'Start')).toBeDefined());
  source.problem = new ProblemError('Somebody changed this task.', 'version-conflict', 409);
  button('t1', 'Start')?.click();
  const banner = (): HTMLElement | null => host.querySelector('.jp-rootbound-Banner');
  const again = (): HTMLButtonElement | undefined =>
    [...(banner()?.querySelectorAll('button') ?? [])].find(one =>
      one.textContent?.startsWith('Move it')
    );
  await eventually(() =>
    expect(banner()?.textContent).toContain(
      '“Parser” was not moved to “In progress”. Somebody changed this task.'
    )
  );
  // Not before what was changed is on the board.
  expect(again()).toBeUndefined();
  sink.task(task('t1', { title: 'Parser of dates', version: 2 }));
  await eventually(() => expect(again()).toBeDefined());
  again()?.click();
  await eventually(() => expect(source.calls).toContain('start t1 at 2'));
  await eventually(() => expect(button('t1', 'Start')?.disabled).toBe(false));
  expect(banner()).toBeNull();

  source.problem = new ProblemError('It has an attempt.', 'attempt-live', 409);
  button('t1', 'Start')?.click();
  await eventually(() => expect(banner()).not.toBeNull());
  sink.task(task('t1', { status: 'IN_PROGRESS', version: 2 }));
  await eventually(() =>
    expect(banner()?.textContent).toContain('moved it meanwhile; it is in “In progress” now')
  );
  expect(again()).toBeUndefined();
});
