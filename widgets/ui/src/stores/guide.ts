import { signal } from '@preact/signals';

import { ProblemError, asProblem } from '../model/problem';
import type { AgentProfile, AgentTest, KeyReport } from '../model/machine';
import type { Project, StackReport } from '../model/types';
import type { Machine } from '../source/machine';

const POLL_MS = 2000;
/** How long a key is looked for that the reader enters elsewhere. */
const KEY_WAIT_MS = 300_000;
const PROVIDERS: readonly (readonly [AgentProfile['provider'], string])[] = [
  ['GLM', 'GLM_API_KEY'],
  ['GEMINI', 'GEMINI_API_KEY']
];

/** What the reader fills in for the first attempt. */
export interface FirstAttempt {
  repoPath: string;
  testCommand: string;
  installCommand: string;
  title: string;
  description: string;
}

/** One question to a model, for all profiles that ask it in the same way. */
export interface ModelTest {
  agents: readonly AgentProfile[];
  /** Null while it is asked. */
  answer: AgentTest | null;
}

/** The parts of the guide; a problem belongs to one. */
export type GuidePart = 'services' | 'model' | 'first';

/** State of the first-run guide: what is there already, and the steps that are taken. */
export class GuideStore {
  readonly stack = signal<StackReport | null>(null);
  readonly keys = signal<readonly KeyReport[] | null>(null);
  readonly agents = signal<readonly AgentProfile[]>([]);
  readonly projects = signal<readonly Project[]>([]);
  readonly problem = signal<ProblemError | null>(null);
  /** Where the problem was met. */
  readonly part = signal<GuidePart>('services');
  /** The step that is being taken, in words of the store's; null when none is. */
  readonly step = signal<'grant' | 'agents' | 'test' | 'project' | 'task' | 'start' | null>(null);
  readonly tests = signal<readonly ModelTest[]>([]);

  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;
  private keyAwaitedUntil = 0;
  // What an earlier, failed try made; trying again goes on from there.
  private made: { path?: string; project?: string; title?: string; task?: string } = {};

  constructor(private readonly machine: Machine) {}

  /** The provider whose key is there; null without one. */
  get provider(): AgentProfile['provider'] | null {
    const found = (this.keys.value ?? []).filter(key => key.source && key.source !== 'none');
    const known = PROVIDERS.find(([, name]) => found.some(key => key.name === name));
    return known?.[0] ?? null;
  }

  /** Whether a model's vendor did not accept the key that is there. */
  get isKeyRefused(): boolean {
    return this.tests.value.some(({ answer }) => answer?.failure === 'PROVIDER_AUTH');
  }

  /** Look at the services until they are ready, then at the rest. */
  async load(): Promise<void> {
    clearTimeout(this.timer);
    try {
      const stack = await this.machine.stack();
      if (this.disposed) {
        return;
      }
      this.stack.value = stack;
      if (stack.state === 'ready') {
        const [keys, agents, projects] = await Promise.all([
          this.machine.listKeys(),
          this.machine.listAgents(),
          this.machine.listProjects()
        ]);
        this.keys.value = keys;
        this.agents.value = agents;
        this.projects.value = projects;
        if (this.problem.value?.isPassing || this.part.value === 'services') {
          this.problem.value = null;
        }
        if (this.provider !== null || Date.now() > this.keyAwaitedUntil) {
          return;
        }
      }
    } catch (reason) {
      const problem = asProblem(reason);
      if (!problem.isPassing) {
        // Asking on by itself would only say the same again; the reader is offered to.
        this.fail('services', problem);
        return;
      }
    }
    if (!this.disposed) {
      this.timer = setTimeout(() => void this.load(), POLL_MS);
    }
  }

  async start(): Promise<void> {
    this.problem.value = null;
    try {
      await this.machine.startStack();
    } catch (reason) {
      this.fail('services', asProblem(reason));
    }
    await this.load();
  }

  /** A key is being entered elsewhere: look until it is there, or for some minutes. */
  async awaitKey(): Promise<void> {
    this.tests.value = [];
    this.keyAwaitedUntil = Date.now() + KEY_WAIT_MS;
    await this.load();
  }

  dismiss(): void {
    this.problem.value = null;
  }

  /** Grant the folder, make what is missing, and start; returns the attempt's id, or null. */
  async begin(wanted: FirstAttempt): Promise<string | null> {
    if (this.step.value !== null) {
      return null;
    }
    this.problem.value = null;
    try {
      const project = await this.project(wanted);
      const task = await this.task(project, wanted);
      this.step.value = 'start';
      return await this.machine.startAttempt(task);
    } catch (reason) {
      this.fail('first', asProblem(reason));
      return null;
    } finally {
      this.step.value = null;
    }
  }

  /** Ask each model one small question; profiles are made if there are none. */
  async tryAgents(): Promise<void> {
    this.problem.value = null;
    this.tests.value = [];
    try {
      await this.ensureAgents();
      const groups = alike(this.agents.value.filter(one => !one.is_replay));
      this.step.value = 'test';
      for (const [first, ...others] of groups) {
        const before = this.tests.value;
        const agents = [first, ...others];
        this.tests.value = [...before, { agents, answer: null }];
        const answer = await this.machine.testAgent(first.id);
        this.tests.value = [...before, { agents, answer }];
      }
    } catch (reason) {
      this.tests.value = this.tests.value.filter(({ answer }) => answer !== null);
      this.fail('model', asProblem(reason));
    } finally {
      this.step.value = null;
    }
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
  }

  private fail(part: GuidePart, problem: ProblemError): void {
    this.part.value = part;
    this.problem.value = problem;
    if (problem.isPassing) {
      void this.load();
    }
  }

  private async project(wanted: FirstAttempt): Promise<string> {
    const { repoPath } = wanted;
    const config = {
      ...(wanted.installCommand ? { install_cmd: wanted.installCommand } : {}),
      ...(wanted.testCommand ? { test_cmd: wanted.testCommand } : {})
    };
    const known =
      this.made.project && this.made.path === repoPath
        ? this.made.project
        : this.projects.value.find(one => one.repo_path === repoPath)?.id;
    if (known) {
      // What was typed meanwhile counts: without a command no attempt would ever start.
      if (Object.keys(config).length > 0) {
        await this.machine.setCommands(known, config);
      }
      if (this.made.project !== known) {
        this.made = { path: repoPath, project: known };
      }
      return known;
    }
    this.step.value = 'grant';
    const granted = await this.grant(repoPath);
    await this.ensureAgents();
    this.step.value = 'project';
    const name = repoPath.replace(/\/+$/, '').split('/').pop() || repoPath;
    const project = await this.machine
      .createProject({ name, repo_path: repoPath, config })
      .catch(async (reason: unknown) => {
        // A folder that no project came of stays as it was.
        if (granted !== null) {
          await this.machine.withdrawRoot(granted).catch(() => undefined);
        }
        throw reason;
      });
    this.made = { path: repoPath, project: project.id };
    return project.id;
  }

  private async ensureAgents(): Promise<void> {
    const { provider } = this;
    if (provider === null) {
      return;
    }
    this.step.value = 'agents';
    for (const role of ['PM', 'BACKEND', 'FRONTEND', 'QA', 'DEVOPS'] as const) {
      if (!this.agents.value.some(agent => agent.role === role && !agent.is_replay)) {
        await this.machine.createAgent(role, provider);
      }
    }
    this.agents.value = await this.machine.listAgents();
  }

  private async task(project: string, wanted: FirstAttempt): Promise<string> {
    if (this.made.task && this.made.title === wanted.title) {
      return this.made.task;
    }
    this.step.value = 'task';
    const task = await this.machine.createTask(project, wanted.title, wanted.description);
    this.made = { ...this.made, title: wanted.title, task: task.id };
    return task.id;
  }

  /** Grant a folder; its id, or null when it was granted already. */
  private async grant(path: string): Promise<string | null> {
    try {
      return (await this.machine.grantRoot(path)).id;
    } catch (reason) {
      if (reason instanceof ProblemError && reason.code === 'root-exists') {
        return null;
      }
      throw reason;
    }
  }
}

/** Profiles by what is asked: the same model at the same address with the same key answers once. */
function alike(agents: readonly AgentProfile[]): [AgentProfile, ...AgentProfile[]][] {
  const groups = new Map<string, [AgentProfile, ...AgentProfile[]]>();
  for (const agent of agents) {
    const { provider, model, base_url, settings } = agent;
    const key = JSON.stringify([provider, model, base_url, settings]);
    const group = groups.get(key);
    if (group) {
      group.push(agent);
    } else {
      groups.set(key, [agent]);
    }
  }
  return [...groups.values()];
}
