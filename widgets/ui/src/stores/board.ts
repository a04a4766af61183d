import { batch, computed, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import type { Project, Task, TaskStatus } from '../model/types';
import type { Dispose, Link, Source } from '../source/source';
import { type Group, type Grouping, type Move, depths, grouped, matches, moveOf } from './arrange';

export const COLUMNS: readonly TaskStatus[] = ['TODO', 'IN_PROGRESS', 'REVIEW', 'DONE'];

const RETRY_S = 2;

/** `waiting`: the services do not answer yet; `absent`: no server extension. */
export type Phase = 'loading' | 'ready' | 'waiting' | 'absent' | 'failed';

/** Where each move leads. */
export const TARGETS: Readonly<Record<Move, TaskStatus>> = {
  start: 'IN_PROGRESS',
  cancel: 'TODO',
  approve: 'DONE',
  reject: 'TODO'
};

export interface Conflict {
  /** The task as the mover saw it. */
  task: Task;
  move: Move;
  /** Of a rejection. */
  reason: string;
  problem: ProblemError;
}

/** State of the task board: projects, the chosen project's tasks, and what went wrong. */
export class BoardStore {
  readonly phase = signal<Phase>('loading');
  readonly problem = signal<ProblemError | null>(null);
  readonly projects = signal<readonly Project[]>([]);
  readonly projectId = signal<string | null>(null);
  readonly tasks = signal<ReadonlyMap<string, Task>>(new Map());
  readonly loaded = signal(false);
  readonly link = signal<Link>('connecting');
  /** Tasks with an action under way. */
  readonly busy = signal<ReadonlySet<string>>(new Set());

  /** Id of the chosen task: the one with the keyboard, or that a notebook chose. */
  readonly selected = signal<string | null>(null);

  /** What the reader looks for, as typed. */
  readonly search = signal('');
  readonly grouping = signal<Grouping>('priority');
  /** Why a card cannot go where it was put; a calm sentence, not an error. */
  readonly notice = signal<{ task: Task; to: TaskStatus } | null>(null);

  /** The move that was not made, because somebody else changed the task before it. */
  readonly conflict = signal<Conflict | null>(null);

  readonly groups = computed(() => {
    const columns: Record<TaskStatus, Task[]> = { TODO: [], IN_PROGRESS: [], REVIEW: [], DONE: [] };
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const task of this.tasks.value.values()) {
      if (matches(task, words)) {
        columns[task.status].push(task);
      }
    }
    const grouping = this.grouping.value;
    const depth = grouping === 'order' ? depths(this.tasks.value) : new Map<string, number>();
    const arranged = {} as Record<TaskStatus, Group[]>;
    for (const status of COLUMNS) {
      arranged[status] = grouped(columns[status], grouping, depth);
    }
    return arranged;
  });

  readonly columns = computed(() => {
    const columns = {} as Record<TaskStatus, readonly Task[]>;
    for (const status of COLUMNS) {
      columns[status] = this.groups.value[status].flatMap(group => group.tasks);
    }
    return columns;
  });

  private stopWatching: Dispose | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;

  constructor(
    private readonly source: Source,
    private readonly preferred: string | null = null
  ) {}

  /** Load the projects and follow the preferred one, or the first. */
  async open(): Promise<void> {
    clearTimeout(this.retry);
    try {
      const projects = await this.source.listProjects();
      if (this.disposed) {
        return;
      }
      const wanted = this.projectId.value ?? this.preferred;
      const chosen = projects.find(project => project.id === wanted) ?? projects[0];
      batch(() => {
        this.projects.value = projects;
        this.phase.value = 'ready';
        this.problem.value = null;
      });
      if (!chosen) {
        this.stopWatching?.();
        this.projectId.value = null;
      } else if (chosen.id !== this.projectId.value || !this.stopWatching) {
        this.choose(chosen.id);
      }
    } catch (reason) {
      this.fail(asProblem(reason));
    }
  }

  /** Show another project. */
  choose(projectId: string): void {
    this.stopWatching?.();
    batch(() => {
      this.projectId.value = projectId;
      this.tasks.value = new Map();
      this.loaded.value = false;
      this.problem.value = null;
    });
    this.stopWatching = this.source.watchTasks(projectId, {
      snapshot: tasks => {
        batch(() => {
          this.tasks.value = new Map(tasks.map(task => [task.id, task]));
          this.loaded.value = true;
        });
      },
      task: task => {
        this.tasks.value = new Map(this.tasks.value).set(task.id, task);
      },
      deleted: id => {
        const tasks = new Map(this.tasks.value);
        tasks.delete(id);
        this.tasks.value = tasks;
      },
      selected: id => {
        this.selected.value = id;
      },
      link: link => {
        this.link.value = link;
      },
      failed: problem => {
        this.problem.value = problem;
      }
    });
  }

  /** The tasks that must be DONE before this one can start, as far as the board knows. */
  blockers(task: Task): { id: string; title: string | null }[] {
    const tasks = this.tasks.value;
    return task.dependencies
      .filter(id => {
        const known = tasks.get(id);
        return known ? known.status !== 'DONE' : task.blocked_by.includes(id);
      })
      .map(id => ({ id, title: tasks.get(id)?.title ?? null }));
  }

  /** What putting a card into a column does; says why when it does nothing. */
  moveTo(task: Task, to: TaskStatus): Move | null {
    const move = task.status === to ? null : moveOf(task, to, this.blockers(task).length > 0);
    this.notice.value = move === null && task.status !== to ? { task, to } : null;
    return move;
  }

  start(task: Task): Promise<boolean> {
    return this.act(task, 'start', () => this.source.startAttempt(task.id, task.version));
  }

  cancel(task: Task): Promise<boolean> {
    return this.actOnAttempt(task, 'cancel', id => this.source.cancelAttempt(id, task.version));
  }

  approve(task: Task): Promise<boolean> {
    return this.actOnAttempt(task, 'approve', id => this.source.approveAttempt(id, task.version));
  }

  reject(task: Task, reason: string): Promise<boolean> {
    return this.actOnAttempt(
      task,
      'reject',
      id => this.source.rejectAttempt(id, reason, task.version),
      reason
    );
  }

  /** Whether a move that came too late can still be made of the task as it is now. */
  canRepeat({ task, move }: Conflict): boolean {
    const now = this.tasks.value.get(task.id);
    // Until the change itself has arrived, there is nothing new to decide on.
    const isNews = now !== undefined && now !== task;
    return isNews && moveOf(now, TARGETS[move], this.blockers(now).length > 0) === move;
  }

  /** Make a move that came too late all the same, of the task as it is now. */
  async repeat({ task, move, reason }: Conflict): Promise<void> {
    const now = this.tasks.value.get(task.id);
    this.conflict.value = null;
    if (now) {
      await (move === 'reject' ? this.reject(now, reason) : this[move](now));
    }
  }

  /** Start the services, then look again. */
  async startStack(): Promise<void> {
    try {
      await this.source.startStack();
      await this.open();
    } catch (reason) {
      this.fail(asProblem(reason));
    }
  }

  select(task: Task): void {
    if (this.selected.value === task.id) {
      return;
    }
    this.selected.value = task.id;
    this.source.selectTask(task.id);
  }

  /** Show a project that was just made or changed. */
  adopt(project: Project): void {
    const others = this.projects.value;
    this.projects.value = others.some(one => one.id === project.id)
      ? others.map(one => (one.id === project.id ? project : one))
      : [...others, project];
    if (project.id !== this.projectId.value) {
      this.choose(project.id);
    }
  }

  dismissProblem(): void {
    this.problem.value = null;
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.retry);
    this.stopWatching?.();
    this.stopWatching = null;
  }

  private async actOnAttempt(
    task: Task,
    move: Move,
    action: (attemptId: string) => Promise<void>,
    reason = ''
  ): Promise<boolean> {
    const attempt = task.latest_attempt;
    return attempt ? this.act(task, move, () => action(attempt.id), reason) : false;
  }

  /**
   * Run one action per task at a time. A refusal becomes the banner's problem, or a conflict when
   * somebody else was quicker.
   */
  private async act(
    task: Task,
    move: Move,
    action: () => Promise<void>,
    reason = ''
  ): Promise<boolean> {
    if (this.busy.value.has(task.id)) {
      return false;
    }
    this.busy.value = new Set(this.busy.value).add(task.id);
    try {
      await action();
      this.problem.value = null;
      this.conflict.value = null;
      return true;
    } catch (error) {
      const problem = asProblem(error);
      if (problem.isTooLate) {
        this.conflict.value = { task, move, reason, problem };
      } else {
        this.problem.value = problem;
      }
      return false;
    } finally {
      const busy = new Set(this.busy.value);
      busy.delete(task.id);
      this.busy.value = busy;
    }
  }

  private fail(problem: ProblemError): void {
    if (this.disposed) {
      return;
    }
    if (problem.isPassing) {
      this.phase.value = 'waiting';
      const wait = problem.retryAfter ?? RETRY_S;
      this.retry = setTimeout(() => void this.open(), wait * 1000);
    } else if (problem.code === 'absent') {
      this.phase.value = 'absent';
    } else {
      this.phase.value = 'failed';
    }
    this.problem.value = problem;
  }
}
