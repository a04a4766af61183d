import { asProblem } from '../model/problem';
import type { Attempt, Diff, Project, ReviewComment, Task } from '../model/types';
import type {
  Branches,
  Comparison,
  Decomposition,
  MergePreview,
  Place,
  PlanTask,
  TaskFields
} from '../model/work';
import type { NewProject } from './machine';
import type { Transport } from './transport';
import { query } from './transport';

/**
 * Planning and reviewing, as panels of the Jupyter server offer them.
 *
 * Methods reject with `ProblemError`.
 */
export interface Work {
  /** Grant a folder; its id, or null when it was granted already. */
  grantRoot(path: string): Promise<string | null>;
  withdrawRoot(rootId: string): Promise<void>;
  createProject(project: NewProject): Promise<Project>;
  updateProject(projectId: string, fields: Partial<NewProject>): Promise<Project>;
  /** The branches of a repository that is granted, or could be. */
  branches(repoPath: string): Promise<Branches>;

  createTask(projectId: string, fields: TaskFields): Promise<Task>;
  /** Change a task as it was seen; one that somebody else changed meanwhile is refused. */
  updateTask(task: Task, fields: Partial<TaskFields>): Promise<Task>;
  deleteTask(taskId: string): Promise<void>;

  /** Ask the PM agent for a plan. */
  plan(projectId: string, prompt: string): Promise<Decomposition>;
  getPlan(planId: string): Promise<Decomposition>;
  /** Plans of a project, the newest first. */
  listPlans(projectId: string): Promise<Decomposition[]>;
  /** Make tasks of a plan as it was edited. */
  approvePlan(planId: string, tasks: readonly PlanTask[]): Promise<Decomposition>;

  getAttempt(attemptId: string): Promise<Attempt>;
  getDiff(attemptId: string): Promise<Diff>;
  listComments(attemptId: string): Promise<ReviewComment[]>;
  addComment(attemptId: string, place: Place, text: string): Promise<ReviewComment>;
  deleteComment(attemptId: string, commentId: string): Promise<void>;
  mergePreview(attemptId: string): Promise<MergePreview>;
  /** The attempts of a task side by side. */
  compare(taskId: string): Promise<Comparison[]>;

  /**
   * Decide on an attempt as it was seen, here and below; one that somebody else decided on
   * meanwhile, or whose task was changed, is refused.
   */
  approve(attempt: Attempt): Promise<void>;
  reject(attempt: Attempt, reason: string): Promise<void>;
  /** Start an attempt that goes on with the work, told of the comments. */
  requestChanges(attempt: Attempt, feedback: string): Promise<Attempt>;
  /** Start an attempt that brings the work onto the branch as it is now. */
  update(attempt: Attempt, resolve: boolean): Promise<Attempt>;
  retry(attempt: Attempt, feedback: string): Promise<Attempt>;
  /** Tell an agent at work something. */
  tell(attemptId: string, text: string): Promise<void>;
}

interface Listing<T> {
  results: T[];
}

/** `Work` over the REST API. */
export class HttpWork implements Work {
  constructor(private readonly transport: Transport) {}

  async grantRoot(path: string): Promise<string | null> {
    try {
      return (await this.send<{ id: string }>('POST', 'api/local-access/roots/', { path })).id;
    } catch (reason) {
      if (asProblem(reason).code === 'root-exists') {
        return null;
      }
      throw reason;
    }
  }

  async withdrawRoot(rootId: string): Promise<void> {
    await this.send('DELETE', `api/local-access/roots/${rootId}/`);
  }

  createProject(project: NewProject): Promise<Project> {
    return this.send('POST', 'api/projects/', project);
  }

  updateProject(projectId: string, fields: Partial<NewProject>): Promise<Project> {
    return this.send('PATCH', `api/projects/${projectId}/`, fields);
  }

  branches(repoPath: string): Promise<Branches> {
    return this.send('GET', `api/repository/${query({ path: repoPath })}`);
  }

  createTask(projectId: string, fields: TaskFields): Promise<Task> {
    return this.send('POST', `api/projects/${projectId}/tasks/`, fields);
  }

  updateTask(task: Task, fields: Partial<TaskFields>): Promise<Task> {
    return this.send('PATCH', `api/tasks/${task.id}/`, { ...fields, version: task.version });
  }

  async deleteTask(taskId: string): Promise<void> {
    await this.send('DELETE', `api/tasks/${taskId}/`);
  }

  plan(projectId: string, prompt: string): Promise<Decomposition> {
    return this.send('POST', `api/projects/${projectId}/decompositions/`, { prompt });
  }

  getPlan(planId: string): Promise<Decomposition> {
    return this.send('GET', `api/decompositions/${planId}/`);
  }

  listPlans(projectId: string): Promise<Decomposition[]> {
    return this.list(`api/projects/${projectId}/decompositions/${query({ limit: 5 })}`);
  }

  approvePlan(planId: string, tasks: readonly PlanTask[]): Promise<Decomposition> {
    return this.send('POST', `api/decompositions/${planId}/approve/`, { tasks });
  }

  getAttempt(attemptId: string): Promise<Attempt> {
    return this.send('GET', `api/attempts/${attemptId}/`);
  }

  getDiff(attemptId: string): Promise<Diff> {
    return this.send('GET', `api/attempts/${attemptId}/diff/`);
  }

  listComments(attemptId: string): Promise<ReviewComment[]> {
    return this.list(`api/attempts/${attemptId}/comments/`);
  }

  addComment(attemptId: string, place: Place, text: string): Promise<ReviewComment> {
    return this.send('POST', `api/attempts/${attemptId}/comments/`, { ...place, text });
  }

  async deleteComment(attemptId: string, commentId: string): Promise<void> {
    await this.send('DELETE', `api/attempts/${attemptId}/comments/${commentId}/`);
  }

  mergePreview(attemptId: string): Promise<MergePreview> {
    return this.send('GET', `api/attempts/${attemptId}/merge-preview/`);
  }

  compare(taskId: string): Promise<Comparison[]> {
    return this.list(`api/tasks/${taskId}/compare/`);
  }

  async approve({ id, task_version: version }: Attempt): Promise<void> {
    await this.send('POST', `api/attempts/${id}/approve/`, { version });
  }

  async reject({ id, task_version: version }: Attempt, reason: string): Promise<void> {
    await this.send('POST', `api/attempts/${id}/reject/`, { reason, version });
  }

  requestChanges(attempt: Attempt, feedback: string): Promise<Attempt> {
    return this.goOn(attempt, 'request-changes', { feedback });
  }

  update(attempt: Attempt, resolve: boolean): Promise<Attempt> {
    return this.goOn(attempt, 'update', { resolve });
  }

  retry(attempt: Attempt, feedback: string): Promise<Attempt> {
    return this.goOn(attempt, 'retry', { feedback });
  }

  async tell(attemptId: string, text: string): Promise<void> {
    await this.send('POST', `api/attempts/${attemptId}/messages/`, { text });
  }

  private goOn(seen: Attempt, verb: string, what: object): Promise<Attempt> {
    const { id, status, task_version: version } = seen;
    return this.send('POST', `api/attempts/${id}/${verb}/`, { ...what, version, status });
  }

  private async list<T>(path: string): Promise<T[]> {
    return (await this.send<Listing<T>>('GET', path)).results;
  }

  private async send<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.transport.request(method, path, body)) as T;
  }
}
