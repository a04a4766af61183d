import { afterEach, beforeEach, expect, test } from 'vitest';

import type { Notice } from '../src/model/machine';
import { ProblemError, problemFrom } from '../src/model/problem';
import {
  type Schedule,
  type ScheduleFields,
  type ScheduleRun,
  cronSentence,
  instant,
  parameterLines,
  readParameters,
  sayCrontabsIn
} from '../src/model/schedule';
import type { Project } from '../src/model/types';
import { mountSchedules } from '../src/mount_schedules';
import type { Schedules } from '../src/source/schedules';
import { PROJECT, eventually } from './fixtures';

const NIGHTLY: Schedule = {
  id: 's1',
  name: 'Nightly',
  project_id: 'p1',
  kind: 'BATCH',
  crontab: '30 2 * * MON-FRI',
  timezone: 'UTC',
  overlap: 'QUEUE',
  is_enabled: true,
  prompt: '',
  notebook: '/srv/night.ipynb',
  parameters: { limit: 5 },
  max_parallel: null,
  budget: null,
  next_run_at: '2026-01-02T02:30:00Z',
  last_status: null
};

class FakeSchedules implements Schedules {
  readonly calls: string[] = [];
  readonly saved: ScheduleFields[] = [];
  problem: ProblemError | null = null;
  found: Schedule[] = [NIGHTLY];
  unread: Notice[] = [];

  private call<T>(what: string, answer: T): Promise<T> {
    this.calls.push(what);
    const { problem } = this;
    this.problem = null;
    return problem ? Promise.reject(problem) : Promise.resolve(answer);
  }

  list = (): Promise<Schedule[]> => Promise.resolve(this.found);
  listProjects = (): Promise<Project[]> => Promise.resolve([PROJECT]);
  create = (fields: ScheduleFields): Promise<Schedule> => {
    this.saved.push(fields);
    return this.call('create', NIGHTLY);
  };
  update = (id: string, fields: ScheduleFields): Promise<Schedule> => {
    this.saved.push(fields);
    return this.call(`update ${id}`, NIGHTLY);
  };
  remove = (id: string): Promise<void> => this.call(`remove ${id}`, undefined);
  pause = (id: string): Promise<void> => this.call(`pause ${id}`, undefined);
  resume = (id: string): Promise<void> => this.call(`resume ${id}`, undefined);
  runNow = (id: string): Promise<void> => this.call(`run ${id}`, undefined);
  preview = (crontab: string): Promise<{ crontab: string; next_runs: string[] }> =>
    Promise.resolve({ crontab, next_runs: ['2026-01-02T02:30:00Z'] });
  runs = (): Promise<ScheduleRun[]> => Promise.resolve([]);
  cancel = (run: ScheduleRun): Promise<void> => this.call(`cancel ${run.id}`, undefined);
  report = (): Promise<unknown> => Promise.resolve({});
  notices = (): Promise<Notice[]> => Promise.resolve(this.unread);
  readNotice = (id: number): Promise<void> => this.call(`read ${id}`, undefined);
}

let schedules: FakeSchedules;
let host: HTMLElement;
let unmount: () => void;

beforeEach(() => {
  schedules = new FakeSchedules();
  host = document.createElement('div');
  document.body.append(host);
});

afterEach(() => {
  unmount();
  host.remove();
});

async function open(): Promise<void> {
  unmount = mountSchedules(host, schedules);
  await eventually(() => expect(host.textContent).toContain('Schedules'));
}

function press(name: string): void {
  const found = [...host.querySelectorAll('button')].find(
    one => one.textContent === name || one.getAttribute('aria-label') === name
  );
  expect(found, name).toBeTruthy();
  found?.click();
}

function type(label: string, value: string): void {
  const field = [...host.querySelectorAll('label')].find(one =>
    one.textContent?.startsWith(label)
  );
  const input = field?.querySelector<HTMLInputElement>('input, textarea, select');
  expect(input, label).toBeTruthy();
  if (input) {
    input.value = value;
    const kind = input.tagName === 'SELECT' ? 'change' : 'input';
    input.dispatchEvent(new Event(kind, { bubbles: true }));
  }
}

test('a schedule is told in words, and started, paused and deleted after a question', async () => {
  schedules.unread = [
    { id: 7, text: 'It failed.', schedule_id: 's1', schedule_run_id: 'n1', created_at: '2026-01-01' }
  ];
  await open();
  await eventually(() =>
    expect(host.textContent).toContain('At 02:30, Monday through Friday')
  );
  press('Run now: Run Nightly now');
  await eventually(() => expect(host.textContent).toContain('It has not run yet.'));
  press('Pause Nightly');
  press('I have read it');
  press('Delete Nightly');
  await eventually(() => expect(host.textContent).toContain('Its history goes with it'));
  expect(schedules.calls).toEqual(['run s1', 'pause s1', 'read 7']);
  press('Yes, delete Nightly');
  await eventually(() => expect(schedules.calls).toContain('remove s1'));
});

test('what is refused is said beside its field, and nothing typed is lost', async () => {
  schedules.found = [];
  await open();
  await eventually(() => expect(host.textContent).toContain('Nothing is scheduled'));
  press('New schedule');
  await eventually(() => expect(host.querySelector('form')).toBeTruthy());
  type('What it starts', 'BATCH');
  await eventually(() => expect(host.textContent).toContain('Parameters'));
  type('Name', 'Report');
  type('Notebook', '/out/x.ipynb');
  type('Crontab', '@daily');
  type('Parameters', 'no parameter');
  await eventually(() => expect(host.querySelector('textarea')?.value).toBe('no parameter'));
  const submit = (): void =>
    void host
      .querySelector('form')
      ?.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true }));
  submit();
  await eventually(() => expect(host.textContent).toContain('“no parameter” is no parameter'));
  expect(schedules.saved).toEqual([]);

  type('Parameters', 'limit = 5\nname = a = b\n');
  const detail = 'Agents may write in /out.';
  schedules.problem = problemFrom(400, {
    code: 'invalid',
    detail,
    errors: { notebook: [detail] }
  });
  await eventually(() => expect(host.querySelector('textarea')?.value).toContain('limit'));
  submit();
  await eventually(() => expect(host.querySelector('.jp-rootbound-FieldError')?.textContent).toBe(detail));
  expect(host.querySelector('.jp-rootbound-Banner')).toBeNull();
  expect(schedules.saved[0]).toMatchObject({
    name: 'Report',
    kind: 'BATCH',
    notebook: '/out/x.ipynb',
    parameters: { limit: 5, name: 'a = b' }
  });
  submit();
  await eventually(() => expect(host.querySelector('form')).toBeNull());
});

test('parameters read back as what they were', () => {
  const parameters = { a: 5, b: 'text', c: '5', d: [1, null], e: ' x ', f: 'two\nlines', g: '' };
  expect(readParameters(parameterLines(parameters))).toEqual(parameters);
});

test('a crontab is said in the language of the page, or else in English', async () => {
  const weekdays = '30 2 * * MON-FRI';
  for (const [language, said] of [
    ['de-DE', 'Um 02:30, Montag bis Freitag'],
    ['pt-BR', 'Às 02:30, de segunda-feira a sexta-feira'],
    ['fr', 'À 02:30, de lundi à vendredi'],
    ['ach-UG', 'At 02:30, Monday through Friday'],
    ['en-GB', 'At 02:30, Monday through Friday'],
    ['', 'At 02:30, Monday through Friday']
  ] as const) {
    await sayCrontabsIn(language);
    expect(cronSentence(weekdays)).toBe(said);
  }
  expect(cronSentence('no crontab')).toBe('no crontab');
});

test('dates are in the language of the page, and as the browser writes that', () => {
  document.documentElement.lang = 'de-DE';
  try {
    expect(instant('2026-03-02T01:30:00Z', 'UTC')).toMatch(/^Mo/);
    document.documentElement.lang = 'not a language';
    expect(instant('2026-03-02T01:30:00Z', 'UTC')).toMatch(/^Mon/);
  } finally {
    document.documentElement.lang = '';
  }
});
