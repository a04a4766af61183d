import { afterEach, beforeEach, expect, test } from 'vitest';

import { daysOf, seriesOf } from '../src/components/cost';
import type { AgentProfile, AgentTest, CostRow, DiskUse, Health, KeyReport } from '../src/model/machine';
import { ProblemError } from '../src/model/problem';
import type { Project, StackReport, Task, WritableRoot } from '../src/model/types';
import { mountStackStatus } from '../src/mount';
import { mountGuide, mountRoots } from '../src/mount_machine';
import type { Machine } from '../src/source/machine';
import { FakeSource, PROJECT, eventually, task } from './fixtures';

const ROOT: WritableRoot = {
  id: 'r1',
  path: '/home/ann/link',
  canonical_path: '/data/work',
  is_enabled: true
};

class FakeMachine implements Machine {
  readonly calls: string[] = [];
  keys: KeyReport[] = [{ name: 'GEMINI_API_KEY', source: 'environment' }];
  problem: ProblemError | null = null;

  private call<T>(what: string, answer: T): Promise<T> {
    this.calls.push(what);
    const { problem } = this;
    this.problem = null;
    return problem ? Promise.reject(problem) : Promise.resolve(answer);
  }

  costs = (): never => {
    throw new Error('not part of these tests');
  };
  grantRoot = (path: string): Promise<WritableRoot> => this.call(`grant ${path}`, ROOT);
  enableRoot = (id: string, on: boolean): Promise<void> =>
    this.call(`enable ${id} ${on}`, undefined);
  withdrawRoot = (id: string): Promise<void> => this.call(`withdraw ${id}`, undefined);
  stack = (): Promise<StackReport> => Promise.resolve({ state: 'ready', python: '/py' });
  startStack = (): Promise<void> => this.call('start', undefined);
  restartService = (name: string): Promise<void> => this.call(`restart ${name}`, undefined);
  serviceLog = (name: string): Promise<string> => this.call(`log ${name}`, `${name} wrote this`);
  health = (): Promise<Health> =>
    Promise.resolve({ services: { worker: { state: 'ready', detail: '1 Celery worker(s)' } } });
  diskUse = (): Promise<DiskUse> =>
    Promise.resolve({
      disk: { measured_at: null, parts: { events: 2e6 }, free_bytes: 5e9, total_bytes: 9e9 },
      projects: []
    });
  listKeys = (): Promise<KeyReport[]> => Promise.resolve(this.keys);
  listAgents = (): Promise<AgentProfile[]> => Promise.resolve([]);
  createAgent = (role: string, provider: string): Promise<void> =>
    this.call(`agent ${role} ${provider}`, undefined);
  testAgent = (id: string): Promise<AgentTest> =>
    this.call(`test ${id}`, { ok: true, message: 'It answered.' });
  listProjects = (): Promise<Project[]> => Promise.resolve([]);
  createProject = (): Promise<Project> => this.call('project', PROJECT);
  setCommands = (id: string, config: object): Promise<void> =>
    this.call(`commands of ${id}: ${JSON.stringify(config)}`, undefined);
  createTask = (_project: string, title: string): Promise<Task> =>
    this.call(`task ${title}`, task('t9'));
  startAttempt = (id: string): Promise<string> => this.call(`attempt ${id}`, 'a9');
}

let machine: FakeMachine;
let source: FakeSource;
let host: HTMLElement;
let unmount: (() => void) | null = null;

beforeEach(() => {
  machine = new FakeMachine();
  source = new FakeSource();
  const sandbox = {
    tier: 'B',
    missing: [],
    guarantees: [
      { title: 'Nothing outside the roots is deleted', by: 'Landlock + supervisor' },
      { title: 'Two layers', by: null }
    ]
  };
  source.stack = {
    stack: { state: 'ready', services: { worker: { state: 'ready', pid: 7 } } },
    local_access: {
      lda: { reachable: true, version: '1', sandbox, protected: ['/home/ann/.ssh'] },
      roots: [ROOT]
    }
  };
  host = document.createElement('div');
  document.body.append(host);
});

afterEach(() => {
  unmount?.();
  unmount = null;
  host.remove();
});

function button(name: string): HTMLButtonElement {
  const found = [...host.querySelectorAll('button')].find(
    one => one.getAttribute('aria-label') === name || one.textContent?.trim() === name
  );
  if (!found) {
    throw new Error(`no button ${name}: ${host.textContent}`);
  }
  return found;
}

function type(selector: string, text: string): void {
  const input = host.querySelector<HTMLInputElement>(selector);
  if (!input) {
    throw new Error(`no ${selector}`);
  }
  input.value = text;
  input.dispatchEvent(new Event('input', { bubbles: true }));
}

test('roots show both spellings, guarantees and protected places; a refusal keeps the text', async () => {
  unmount = mountRoots(host, source, machine, { pickFolder: async () => '/data/new' });
  await eventually(() => expect(host.textContent).toContain('granted as /home/ann/link'));
  expect(host.textContent).toContain('Landlock + supervisor');
  expect(host.querySelector('tr[data-kept="false"]')?.textContent).toContain('Two layers');
  expect(host.textContent).toContain('/home/ann/.ssh');

  button('Choose…').click();
  const input = '[aria-label="Folder to grant"]';
  await eventually(() =>
    expect(host.querySelector<HTMLInputElement>(input)?.value).toBe('/data/new')
  );
  machine.problem = new ProblemError('/data/new holds secrets; choose another.', 'root-protected');
  host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  await eventually(() => expect(host.textContent).toContain('holds secrets'));
  expect(host.querySelector<HTMLInputElement>(input)?.value).toBe('/data/new');
  host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  await eventually(() => expect(host.querySelector<HTMLInputElement>(input)?.value).toBe(''));
  expect(host.textContent).not.toContain('holds secrets');

  host.querySelector<HTMLInputElement>('[type="checkbox"]')?.click();
  await eventually(() => expect(machine.calls).toContain('enable r1 false'));
});

test('a service is restarted after a second question, and shows its log and version', async () => {
  unmount = mountStackStatus(host, source, { machine });
  await eventually(() => expect(host.textContent).toContain('1 Celery worker(s)'));
  expect(host.textContent).toContain('5.0 GB free of 9.0 GB');
  button('Log of worker').click();
  await eventually(() => expect(host.querySelector('pre')?.textContent).toBe('worker wrote this'));
  button('Restart worker').click();
  await eventually(() => button('Yes, restart worker').click());
  expect(machine.calls.filter(call => call.startsWith('restart'))).toEqual(['restart worker']);
});

test('without a key the guide offers the demo', async () => {
  machine.keys = [{ name: 'GEMINI_API_KEY', source: 'none' }];
  const typed: string[] = [];
  const runInTerminal = async (command: string): Promise<boolean> => {
    typed.push(command);
    return false;
  };
  unmount = mountGuide(host, machine, { runInTerminal });
  await eventually(() => button('Run the demo').click());
  expect(typed).toEqual(["'/py' -m rootbound.cli demo"]);
  await eventually(() => expect(host.textContent).toContain('This server has no terminals'));
});

const profile = (role: AgentProfile['role'], more: Partial<AgentProfile> = {}): AgentProfile => ({
  id: `agent-${role}`,
  name: role,
  provider: 'GEMINI',
  model: 'gemini-2.5-flash',
  role,
  is_replay: false,
  ...more
});
const tested = (): string[] => machine.calls.filter(call => call.startsWith('test'));

test('the guide asks each model one question, for all profiles that have it', async () => {
  const profiles = [
    profile('PM'),
    profile('QA', { is_replay: true }),
    profile('BACKEND'),
    profile('DEVOPS', { base_url: 'https://other.example/' })
  ];
  machine.listAgents = () => Promise.resolve(profiles);
  unmount = mountGuide(host, machine, {});
  await eventually(() => button('Test the agents’ models').click());
  await eventually(() => expect(button('Test again').disabled).toBe(false));
  const lines = [...host.querySelectorAll('.jp-rootbound-Test')].map(one => one.textContent);
  expect(lines).toEqual(['✓It answered. PM, BACKEND', '✓It answered. DEVOPS']);
  expect(tested()).toEqual(['test agent-PM', 'test agent-DEVOPS']);
});

test('a key that is refused is no model yet: another can be entered, and tried', async () => {
  machine.listAgents = () => Promise.resolve([profile('PM')]);
  const answer = machine.testAgent;
  machine.testAgent = async id => ({
    ...(await answer(id)),
    ok: false,
    failure: 'PROVIDER_AUTH',
    message: 'It did not accept the key.'
  });
  const typed: string[] = [];
  const runInTerminal = (command: string): Promise<boolean> => {
    typed.push(command);
    return Promise.resolve(true);
  };
  unmount = mountGuide(host, machine, { runInTerminal });
  const step = (): HTMLElement => host.querySelectorAll<HTMLElement>('.jp-rootbound-Step')[1]!;
  await eventually(() => expect(step().dataset['done']).toBe('true'));
  button('Test the agents’ models').click();
  await eventually(() => expect(step().textContent).toContain('It did not accept the key.'));
  expect(step().dataset['done']).toBe('false');
  button('Enter GEMINI_API_KEY…').click();
  await eventually(() => expect(host.querySelector('.jp-rootbound-Test')).toBeNull());
  expect(typed).toEqual(["'/py' -m rootbound.cli up --ask-key GEMINI_API_KEY"]);
  machine.testAgent = answer;
  button('Test the agents’ models').click();
  await eventually(() => expect(step().textContent).toContain('It answered.'));
  expect(step().dataset['done']).toBe('true');
  expect(tested()).toHaveLength(2);
});

test('services that do not start say why, and can be tried again', async () => {
  const states: StackReport[] = [{ state: 'failed', message: 'Port 8001 is taken.' }];
  machine.stack = () => Promise.resolve(states[0]!);
  let opened = 0;
  unmount = mountGuide(host, machine, { openStatus: () => (opened += 1) });
  await eventually(() =>
    expect(host.querySelector('[role="alert"]')?.textContent).toBe('Port 8001 is taken.')
  );
  button('Services and their logs').click();
  expect(opened).toBe(1);
  states[0] = { state: 'ready', python: '/py' };
  button('Try again').click();
  await eventually(() => expect(host.textContent).toContain('There is a key for GEMINI'));
  expect(machine.calls).toEqual(['start']);
});

test('services that did not start show their logs', async () => {
  const source = new FakeSource();
  source.getStack = () =>
    Promise.resolve({
      stack: { state: 'failed', message: 'PostgreSQL did not start.' },
      local_access: null
    });
  unmount = mountStackStatus(host, source, { machine });
  await eventually(() => expect(host.textContent).toContain('PostgreSQL did not start.'));
  const log = host.querySelector<HTMLButtonElement>('button[aria-label="Log of postgres"]');
  log?.click();
  await eventually(() => expect(host.querySelector('pre')?.textContent).toBe('postgres wrote this'));
  expect(
    host.querySelector<HTMLButtonElement>('button[aria-label="Restart postgres"]')?.disabled
  ).toBe(true);
});

test('the guide says what failed in the step where it did, and goes on when tried again', async () => {
  const keys = machine.listKeys;
  machine.listKeys = () => Promise.reject(new ProblemError('It failed here.', 'internal', 500));
  unmount = mountGuide(host, machine, {});
  await eventually(() => expect(host.textContent).toContain('It failed here.'));
  machine.listKeys = keys;
  button('Retry').click();
  await eventually(() => expect(host.textContent).toContain('There is a key for GEMINI'));
  expect(host.textContent).not.toContain('It failed here.');
  machine.problem = new ProblemError('No profile can be made.', 'internal', 500);
  button('Test the agents’ models').click();
  const step = (): HTMLElement => host.querySelectorAll<HTMLElement>('.jp-rootbound-Step')[1]!;
  await eventually(() => expect(step().textContent).toContain('No profile can be made.'));
  machine.listAgents = () => Promise.resolve([profile('PM')]);
  button('Retry').click();
  await eventually(() => expect(step().textContent).toContain('It answered.'));
  expect(step().textContent).not.toContain('No profile can be made.');
});

test('with a key the guide leads to an attempt, and goes on where a try failed', async () => {
  let opened = '';
  unmount = mountGuide(host, machine, {
    openAttempt: id => {
      opened = id;
    }
  });
  await eventually(() => expect(host.querySelector('form')).not.toBeNull());
  const fill = async (): Promise<void> => {
    type('input[placeholder="/absolute/path"]', '/data/work');
    const fields = host.querySelectorAll<HTMLInputElement>('form input');
    const title = fields[fields.length - 1];
    if (title) {
      title.value = 'Fix it';
      title.dispatchEvent(new Event('input', { bubbles: true }));
    }
    await eventually(() => expect(button('Start').disabled).toBe(false));
  };
  await fill();
  machine.problem = new ProblemError('It is a root already.', 'root-exists', 409);
  const submit = (): void => {
    host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  };
  submit();
  await eventually(() => expect(opened).toBe('a9'));
  expect(machine.calls).toEqual([
    'grant /data/work',
    ...['PM', 'BACKEND', 'FRONTEND', 'QA', 'DEVOPS'].map(role => `agent ${role} GEMINI`),
    'project',
    'task Fix it',
    'attempt t9'
  ]);
  // What was sent is not kept.
  await eventually(() => expect(button('Start').disabled).toBe(true));
  await fill();
  // The project is there by now, and learns of the command that was typed only then.
  type('input[placeholder="python -m pytest -q"]', 'pytest');
  await eventually(() => expect(button('Start').disabled).toBe(false));
  submit();
  await eventually(() => expect(machine.calls.filter(one => one === 'attempt t9')).toHaveLength(2));
  expect(machine.calls).toContain(`commands of ${PROJECT.id}: {"test_cmd":"pytest"}`);
  expect(machine.calls.filter(one => one === 'project')).toHaveLength(1);
});

test('costs become series by day, the smallest added up', () => {
  const row = (day: string, name: string, cost: number): CostRow => ({
    day,
    project: name,
    project_name: name,
    role: 'BACKEND',
    runs: 1,
    input_tokens: 10,
    output_tokens: 1,
    cost_usd: cost,
    unpriced_runs: 0
  });
  const rows = [
    row('2026-01-01', 'a', 5),
    row('2026-01-02', 'a', 1),
    ...['b', 'c', 'd', 'e', 'f', 'g'].map((name, index) => row('2026-01-02', name, 4 - index / 2))
  ];
  const series = seriesOf(rows, { group: 'project', measure: 'money' }, 'others');
  expect(series.map(one => [one.name, one.total])).toEqual([
    ['a', 6],
    ['b', 4],
    ['c', 3.5],
    ['d', 3],
    ['e', 2.5],
    ['others', 3.5]
  ]);
  expect(seriesOf(rows, { group: 'role', measure: 'tokens' }, '')[0]?.total).toBe(88);
  expect(daysOf({ since: '2026-02-27', until: '2026-03-01', results: [] })).toEqual([
    '2026-02-27',
    '2026-02-28',
    '2026-03-01'
  ]);
});
