import { afterEach, beforeEach, expect, test } from 'vitest';

import { drafts } from '../src/model/drafts';
import { ProblemError } from '../src/model/problem';
import type { TaskFields } from '../src/model/work';
import { mountTaskBoard } from '../src/mount';
import type { TaskSink } from '../src/source/source';
import type { Work } from '../src/source/work';
import { PlanStore } from '../src/stores/plan';
import { ReviewStore } from '../src/stores/review';
import { FakeSource, attempt, eventually, task } from './fixtures';

let unmount: (() => void) | null = null;

beforeEach(() => sessionStorage.clear());

afterEach(() => {
  unmount?.();
  unmount = null;
  document.body.replaceChildren();
});

function button(text: string): HTMLButtonElement | undefined {
  return [...document.querySelectorAll('button')].find(
    one => one.textContent === text || one.getAttribute('aria-label') === text
  );
}

function type(selector: string, text: string): void {
  const field = document.querySelector<HTMLInputElement>(selector);
  if (!field) {
    throw new Error(`there is no ${selector}`);
  }
  field.value = text;
  field.dispatchEvent(new Event('input', { bubbles: true }));
}

/** The board as a page that was just loaded shows it. */
async function loaded(work: Partial<Work>): Promise<FakeSource> {
  unmount?.();
  const host = document.createElement('div');
  document.body.replaceChildren(host);
  const source = new FakeSource();
  unmount = mountTaskBoard(host, source, { work: work as Work });
  await eventually(() => expect(source.taskSink).not.toBeNull());
  (source.taskSink as TaskSink).snapshot([
    task('t1', { title: 'Parser', status: 'REVIEW', latest_attempt: attempt({ status: 'REVIEW' }) })
  ]);
  await eventually(() => expect(button('New task')).toBeDefined());
  return source;
}

async function submitted(): Promise<void> {
  document
    .querySelector('form')
    ?.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true }));
}

test('a task that is being written outlives the page until it is sent', async () => {
  const made: TaskFields[] = [];
  let refuses = true;
  const work: Partial<Work> = {
    createTask: async (_project, fields) => {
      if (refuses) {
        throw new ProblemError('The services do not answer.', 'offline', 503);
      }
      made.push(fields);
      return task('t2');
    }
  };
  await loaded(work);
  button('New task')?.click();
  await eventually(() => expect(document.querySelector('form input')).not.toBeNull());
  expect(document.body.textContent).not.toContain('typed before');
  type('form input', 'A long');
  type('form input', 'A long title');
  type('form textarea', 'and more');
  await submitted();
  await eventually(() => expect(document.body.textContent).toContain('do not answer'));

  await loaded(work);
  button('New task')?.click();
  await eventually(() => expect(document.body.textContent).toContain('typed before'));
  expect(document.querySelector<HTMLInputElement>('form input')?.value).toBe('A long title');
  refuses = false;
  await submitted();
  await eventually(() => expect(made).toHaveLength(1));
  expect(made[0]).toMatchObject({ title: 'A long title', description: 'and more' });

  await loaded(work);
  button('New task')?.click();
  await eventually(() => expect(document.querySelector('form input')).not.toBeNull());
  expect(document.querySelector<HTMLInputElement>('form input')?.value).toBe('');
  expect(sessionStorage.length).toBe(0);
});

test('a kept change of a task is of the version it was made of, and can be discarded', async () => {
  const versions: number[] = [];
  const work: Partial<Work> = {
    updateTask: async one => {
      versions.push(one.version);
      throw new ProblemError('Changed meanwhile.', 'version-conflict', 409);
    }
  };
  const edit = async (): Promise<void> => {
    button('Change the task')?.click();
    await eventually(() => expect(document.querySelector('form input')).not.toBeNull());
  };
  await loaded(work);
  await edit();
  type('form input', 'Parser of dates');
  const source = await loaded(work);
  source.taskSink?.task(task('t1', { title: 'Lexer', version: 2 }));
  await eventually(() => expect(document.querySelector('[aria-label="Lexer"]')).not.toBeNull());
  await edit();
  expect(document.querySelector<HTMLInputElement>('form input')?.value).toBe('Parser of dates');
  await submitted();
  await eventually(() => expect(document.body.textContent).toContain('it is “Lexer” now'));
  expect(versions).toEqual([1]);
  button('Discard it')?.click();
  await eventually(() =>
    expect(document.querySelector<HTMLInputElement>('form input')?.value).toBe('Lexer')
  );
  expect(sessionStorage.length).toBe(0);
});

test('the reason of a rejection and comments of a review are kept until they are sent', async () => {
  await loaded({});
  button('Reject…')?.click();
  await eventually(() => expect(document.querySelector('form input')).not.toBeNull());
  type('form input', 'Too long');
  const source = await loaded({});
  button('Reject…')?.click();
  await eventually(() =>
    expect(document.querySelector<HTMLInputElement>('form input')?.value).toBe('Too long')
  );
  await submitted();
  await eventually(() => expect(source.calls).toContain('reject a1: Too long'));
  await eventually(() => expect(sessionStorage.length).toBe(0));

  const place = { path: 'a.py', side: 'new', line: 3 } as const;
  const sent: string[] = [];
  const work = {
    addComment: async (_attempt: string, _place: unknown, text: string) => {
      sent.push(text);
      return { id: 'c1', ...place, author: 'ada', commit: null, text, created_at: '' };
    }
  } as unknown as Work;
  const first = new ReviewStore(work, 'a1');
  first.write(place, 'Why not a set?');
  first.write({ ...place, line: 4 }, '');
  const second = new ReviewStore(work, 'a1');
  expect([...second.drafts.value.values()]).toEqual(['Why not a set?']);
  expect(new ReviewStore(work, 'a2').drafts.value.size).toBe(0);
  await second.comment(place);
  expect(sent).toEqual(['Why not a set?']);
  expect(sessionStorage.length).toBe(0);
});

test('a wish and an edited plan outlive the page', async () => {
  const plan = {
    id: 'd1',
    user_prompt: 'Make it add',
    status: 'READY',
    plan: { summary: '', tasks: [{ key: 'one', title: 'One', description: '', role: 'QA' }] }
  };
  const work = {
    listPlans: async () => [plan],
    approvePlan: async () => plan
  } as unknown as Work;
  const asked = new PlanStore(work, 'p1');
  asked.prompt.value = 'Make it subtract';
  expect(new PlanStore(work, 'p1').prompt.value).toBe('Make it subtract');
  expect(new PlanStore(work, 'p2').prompt.value).toBe('');
  await asked.open();
  asked.change(0, { title: 'The one' });
  const again = new PlanStore(work, 'p1');
  await again.open();
  expect(again.tasks.value).toMatchObject([{ title: 'The one' }]);
  expect(await again.approve()).toBe(true);
  expect(sessionStorage.length).toBe(0);
});

test('what cannot be read is no draft', () => {
  sessionStorage.setItem('rootbound:draft:grant', '{"half');
  expect(drafts.read('grant')).toBeUndefined();
});
