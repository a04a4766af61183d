import { afterEach, beforeEach, expect, test } from 'vitest';

import { type ProblemError, problemFrom } from '../src/model/problem';
import { mountTaskBoard } from '../src/mount';
import type { TaskSink } from '../src/source/source';
import type { Work } from '../src/source/work';
import { FakeSource, eventually, task } from './fixtures';

let unmount: (() => void) | null = null;

beforeEach(() => sessionStorage.clear());

afterEach(() => {
  unmount?.();
  unmount = null;
  document.body.replaceChildren();
});

function refused(errors: unknown, code = 'invalid', detail = 'It was refused.'): ProblemError {
  return problemFrom(code === 'invalid' ? 400 : 422, { code, detail, errors });
}

/** The label and the sentence of each field that was refused. */
function wrong(): [string, string][] {
  return [...document.querySelectorAll('[aria-invalid="true"]')].map(field => [
    field.getAttribute('aria-label') ?? field.closest('label')?.querySelector('span')?.textContent ?? '',
    document.getElementById(field.getAttribute('aria-describedby') ?? '')?.textContent ?? ''
  ]);
}

function banner(): string | undefined {
  return document.querySelector('.jp-rootbound-Drawer .jp-rootbound-Banner')?.textContent;
}

async function opened(name: string, work: Partial<Work>): Promise<void> {
  const host = document.createElement('div');
  document.body.append(host);
  const source = new FakeSource();
  unmount = mountTaskBoard(host, source, { work: work as Work });
  await eventually(() => expect(source.taskSink).not.toBeNull());
  (source.taskSink as TaskSink).snapshot([task('t1')]);
  const button = (): HTMLButtonElement | undefined =>
    [...document.querySelectorAll('button')].find(
      one => one.textContent === name || one.getAttribute('aria-label') === name
    );
  await eventually(() => expect(button()).toBeDefined());
  button()?.click();
  await eventually(() => expect(document.querySelector('form')).not.toBeNull());
}

function type(index: number, text: string): void {
  const field = document.querySelectorAll<HTMLInputElement>('form input, form textarea')[index];
  if (field) {
    field.value = text;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }
}

function submit(): void {
  document
    .querySelector('form')
    ?.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true }));
}

test('errors of a problem are found by the names of their fields', () => {
  const { fields } = refused({
    title: ['Too long.', 'And dull.'],
    config: { test_cmd: ['Empty.'] },
    tasks: [{}, { title: ['Missing.'] }],
    'tasks[2].role': ['No such role.'],
    non_field_errors: ['Both.']
  });
  expect([...fields]).toEqual([
    ['title', 'Too long.'],
    ['config.test_cmd', 'Empty.'],
    ['tasks[1].title', 'Missing.'],
    ['tasks[2].role', 'No such role.'],
    ['non_field_errors', 'Both.']
  ]);
  expect(refused(undefined).fields.size).toBe(0);
});

test('a refused project says at each field what is wrong, and begins there', async () => {
  const withdrawn: string[] = [];
  let problem = refused({ name: ['Too long.'], config: { test_cmd: ['Not a command.'] } });
  await opened('New project', {
    grantRoot: async () => 'r1',
    withdrawRoot: async id => {
      withdrawn.push(id);
    },
    branches: async () => ({ checked_out: 'main', branches: ['main', 'next'] }),
    createProject: async () => {
      throw problem;
    }
  });
  type(0, '/data/calc');
  type(5, '...');
  submit();
  await eventually(() =>
    expect(wrong()).toEqual([
      ['Name (default: the folder’s)', 'Too long.'],
      ['Command that tests it', 'Not a command.']
    ])
  );
  expect(banner()).toBeUndefined();
  expect(withdrawn).toEqual(['r1']);
  const first = document.querySelector('[aria-invalid="true"]');
  await eventually(() => expect(document.activeElement).toBe(first));

  // A folder that cannot be used has a code of its own; what belongs to no field has the banner.
  problem = refused(undefined, 'repo-not-git', 'This folder is no git work tree.');
  submit();
  await eventually(() =>
    expect(wrong()).toEqual([['Folder of a git repository', 'This folder is no git work tree.']])
  );
  problem = refused(undefined, 'base-unknown', 'It has no branch ‘old’; it has main, next.');
  submit();
  await eventually(() => expect(wrong()[0]?.[1]).toBe('It has no branch ‘old’; it has main, next.'));
  expect(wrong()[0]?.[0]).toContain('Branch that work starts from');
  const offers = (): (string | null)[] =>
    [...document.querySelectorAll('form datalist option')].map(one => one.getAttribute('value'));
  await eventually(() => expect(offers()).toEqual(['main', 'next']));
  problem = refused(undefined, 'attempt-live', 'Not now.');
  submit();
  await eventually(() => expect(banner()).toContain('Not now.'));
  expect(wrong()).toEqual([]);
});

test('who has no agents yet is led to the guide, which makes them', async () => {
  const host = document.createElement('div');
  document.body.append(host);
  const source = new FakeSource();
  let shown = 0;
  unmount = mountTaskBoard(host, source, { openGuide: () => (shown += 1) });
  await eventually(() => expect(source.taskSink).not.toBeNull());
  (source.taskSink as TaskSink).snapshot([task('t1')]);
  const press = (name: string): void =>
    [...host.querySelectorAll('button')].find(one => one.textContent === name)?.click();
  await eventually(() => expect(host.textContent).toContain('Start'));
  source.problem = problemFrom(409, { code: 'agent-missing', detail: 'POST /api/agents/.' });
  press('Start');
  await eventually(() => expect(host.textContent).toContain('Getting Started makes the agents'));
  expect(host.textContent).not.toContain('POST');
  press('Getting Started');
  expect(shown).toBe(1);
});

test('a refused task says at each field what is wrong', async () => {
  await opened('New task', {
    createTask: async () => {
      throw refused({ title: ['Too long.'], dependencies: ['They would wait for each other.'] });
    }
  });
  type(0, 'A title');
  submit();
  await eventually(() => expect(wrong()).toEqual([['What shall be done', 'Too long.']]));
  const summary = document.querySelector('form summary');
  expect(
    document.getElementById(summary?.getAttribute('aria-describedby') ?? '')?.textContent
  ).toBe('They would wait for each other.');
});

test('a refused plan says it at the task', async () => {
  const plan = {
    id: 'd1',
    status: 'READY',
    user_prompt: 'x',
    plan: {
      summary: '',
      tasks: ['one', 'two'].map(key => ({ key, title: key, description: '', role: 'QA' }))
    }
  };
  await opened('Plan with PM', {
    listPlans: async () => [plan] as never,
    approvePlan: async () => {
      throw refused({ 'tasks[1].title': ['Said twice.'] });
    }
  });
  await eventually(() => expect(document.querySelector('.jp-rootbound-PlanTask')).not.toBeNull());
  submit();
  await eventually(() => expect(wrong()).toEqual([['Title of task 2', 'Said twice.']]));
});
