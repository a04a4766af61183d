import { type Signal, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import { drafts } from '../model/drafts';
import type { Decomposition, PlanTask } from '../model/work';
import type { Work } from '../source/work';

const POLL_MS = 1000;

/** The plan that is being asked for, or edited before it becomes tasks. */
export class PlanStore {
  readonly prompt: Signal<string>;
  readonly decomposition = signal<Decomposition | null>(null);
  /** The plan's tasks as the reader has them now. */
  readonly tasks = signal<readonly PlanTask[]>([]);
  readonly problem = signal<ProblemError | null>(null);
  readonly busy = signal(false);

  private readonly stop: () => void;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;

  constructor(
    private readonly work: Work,
    private readonly projectId: string
  ) {
    const key = `wish ${projectId}`;
    this.prompt = signal(drafts.read<string>(key) ?? '');
    this.stop = this.prompt.subscribe(text => {
      // What was asked for is the plan's own; what is typed instead is not.
      if (text !== '' && text !== this.decomposition.peek()?.user_prompt) {
        drafts.write(key, text);
      } else {
        drafts.remove(key);
      }
    });
  }

  /** Go on with a plan that waits for its approval, or is still being made. */
  async open(): Promise<void> {
    try {
      const [latest] = await this.work.listPlans(this.projectId);
      if (latest && (latest.status === 'PENDING' || latest.status === 'READY')) {
        this.take(latest);
      }
    } catch (reason) {
      this.fail(reason);
    }
  }

  /** Ask the PM agent. */
  async ask(): Promise<void> {
    const prompt = this.prompt.value.trim();
    if (!prompt || this.busy.value) {
      return;
    }
    await this.act(async () => {
      this.take(await this.work.plan(this.projectId, prompt));
      drafts.remove(`wish ${this.projectId}`);
    });
  }

  change(index: number, fields: Partial<PlanTask>): void {
    this.edit(
      this.tasks.value.map((task, at) => (at === index ? { ...task, ...fields } : task))
    );
  }

  add(): void {
    const taken = new Set(this.tasks.value.map(task => task.key));
    let number = this.tasks.value.length + 1;
    while (taken.has(`task-${number}`)) {
      number += 1;
    }
    const key = `task-${number}`;
    this.edit([...this.tasks.value, { key, title: '', description: '', role: 'BACKEND' }]);
  }

  /** Take a task out; those that waited for it wait for it no longer. */
  remove(index: number): void {
    const gone = this.tasks.value[index]?.key;
    this.edit(
      this.tasks.value
        .filter((_, at) => at !== index)
        .map(task => ({
          ...task,
          depends_on: (task.depends_on ?? []).filter(key => key !== gone)
        }))
    );
  }

  move(index: number, step: -1 | 1): void {
    const tasks = [...this.tasks.value];
    const [task] = tasks.splice(index, 1);
    if (task) {
      tasks.splice(Math.max(0, index + step), 0, task);
      this.edit(tasks);
    }
  }

  /** Make the tasks; true when they are made. */
  async approve(): Promise<boolean> {
    const plan = this.decomposition.value;
    if (!plan) {
      return false;
    }
    return this.act(async () => {
      await this.work.approvePlan(plan.id, this.tasks.value);
      this.drop();
      this.prompt.value = '';
    });
  }

  /** Leave the plan alone and begin again, with the same words. */
  drop(): void {
    clearTimeout(this.timer);
    drafts.remove(`plan ${this.decomposition.value?.id}`);
    this.decomposition.value = null;
    this.tasks.value = [];
  }

  dispose(): void {
    this.disposed = true;
    this.stop();
    clearTimeout(this.timer);
  }

  private take(found: Decomposition): void {
    if (this.disposed) {
      return;
    }
    const isNews = this.decomposition.value?.status !== found.status;
    this.decomposition.value = found;
    if (!this.prompt.value) {
      this.prompt.value = found.user_prompt;
    }
    if (found.status === 'PENDING') {
      this.timer = setTimeout(() => void this.look(found.id), POLL_MS);
    } else if (isNews) {
      this.tasks.value = drafts.read<PlanTask[]>(`plan ${found.id}`) ?? found.plan?.tasks ?? [];
    }
  }

  private edit(tasks: readonly PlanTask[]): void {
    this.tasks.value = tasks;
    drafts.write(`plan ${this.decomposition.value?.id}`, tasks);
  }

  private async look(id: string): Promise<void> {
    try {
      this.take(await this.work.getPlan(id));
      this.problem.value = null;
    } catch (reason) {
      this.fail(reason);
      if (!this.disposed && asProblem(reason).isPassing) {
        this.timer = setTimeout(() => void this.look(id), POLL_MS);
      }
    }
  }

  private async act(what: () => Promise<void>): Promise<boolean> {
    this.busy.value = true;
    try {
      await what();
      this.problem.value = null;
      return true;
    } catch (reason) {
      this.fail(reason);
      return false;
    } finally {
      this.busy.value = false;
    }
  }

  private fail(reason: unknown): void {
    if (!this.disposed) {
      this.problem.value = asProblem(reason);
    }
  }
}
