import { signal } from '@preact/signals';

import { ProblemError, asProblem } from '../model/problem';
import type { AgentProfile, AgentTest, KeyReport } from '../model/machine';
import type { Project, StackReport } from '../model/types';
import type { Machine } from '../source/machine';

const POLL_MS = 2000;
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

/** State of the first-run guide: what is there already, and the steps that are taken. */
export class GuideStore {
  readonly stack = signal<StackReport | null>(null);
  readonly keys = signal<readonly KeyReport[] | null>(null);
  readonly agents = signal<readonly AgentProfile[]>([]);
  readonly projects = signal<readonly Project[]>([]);
  readonly problem = signal<ProblemError | null>(null);
  /** The step that is being taken, in words of the store's; null when none is. */
  readonly step = signal<'grant' | 'agents' | 'test' | 'project' | 'task' | 'start' | null>(null);
  /** What the models answered, by profile. */
  readonly tests = signal<ReadonlyMap<AgentProfile, AgentTest>>(new Map());

  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;
  // What an earlier, failed try made; trying again goes on from there.
  private made: { path?: string; project?: string; title?: string; task?: string } = {};

  constructor(private readonly machine: Machine) {}

  /** The provider whose key is there; null without one. */
  get provider(): AgentProfile['provider'] | null {
    const found = (this.keys.value ?? []).filter(key => key.source && key.source !== 'none');
    const known = PROVIDERS.find(([, name]) => found.some(key => key.name === name));
    return known?.[0] ?? null;
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
        return;
      }
    } catch (reason) {
      const problem = asProblem(reason);
      if (!problem.isPassing) {
        this.problem.value = problem;
      }
    }
    if (!this.disposed) {
      this.timer = setTimeout(() => void this.load(), POLL_MS);
    }
  }

  async start(): Promise<void> {
    try {
      await this.machine.startStack();
      this.problem.value = null;
    } catch (reason) {
      this.problem.value = asProblem(reason);
    }
    await this.load();
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
      this.problem.value = asProblem(reason);
      return null;
    } finally {
      this.step.value = null;
    }
  }

  /** Ask the model of each profile one small question; profiles are made if there are none. */
  async tryAgents(): Promise<void> {
    this.problem.value = null;
    this.tests.value = new Map();
    try {
      await this.ensureAgents();
      for (const agent of this.agents.value.filter(one => !one.is_replay)) {
        this.step.value = 'test';
        this.tests.value = new Map(this.tests.value).set(
          agent,
          await this.machine.testAgent(agent.id)
        );
      }
    } catch (reason) {
      this.problem.value = asProblem(reason);
    } finally {
      this.step.value = null;
    }
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
  }

  private async project(wanted: FirstAttempt): Promise<string> {
    const { repoPath } = wanted;
    if (this.made.project && this.made.path === repoPath) {
      return this.made.project;
    }
    const known = this.projects.value.find(one => one.repo_path === repoPath);
    if (known) {
      this.made = { path: repoPath, project: known.id };
      return known.id;
    }
    this.step.value = 'grant';
    await this.unlessThere(this.machine.grantRoot(repoPath), 'root-exists');
    await this.ensureAgents();
    this.step.value = 'project';
    const config = {
      ...(wanted.installCommand ? { install_cmd: wanted.installCommand } : {}),
      ...(wanted.testCommand ? { test_cmd: wanted.testCommand } : {})
    };
    const name = repoPath.replace(/\/+$/, '').split('/').pop() || repoPath;
    const project = await this.machine.createProject({ name, repo_path: repoPath, config });
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

  private async unlessThere(act: Promise<unknown>, code: string): Promise<void> {
    try {
      await act;
    } catch (reason) {
      if (!(reason instanceof ProblemError) || reason.code !== code) {
        throw reason;
      }
    }
  }
}
