import type { ReadonlySignal } from '@preact/signals';

import type {
  AccessQuery,
  AccessRequest,
  AccessScope,
  Attempt,
  AttemptEvent,
  AuditCount,
  AuditPage,
  AuditQuery,
  Diff,
  EarlierEvents,
  FoundEvents,
  Project,
  StackStatus,
  Task
} from '../model/types';
import type { ProblemError } from '../model/problem';
import type { AuditFacts } from './machine';

/** State of a live connection, as shown to the user. */
export type Link = 'connecting' | 'live' | 'lost';

/** Stops a subscription; calling it again does nothing. */
export type Dispose = () => void;

/** Receives a project's tasks: the whole first, then each change. */
export interface TaskSink {
  snapshot(tasks: readonly Task[]): void;
  task(task: Task): void;
  deleted(id: string): void;
  /** Somebody else chose a task, or none: code in a notebook. */
  selected?(id: string | null): void;
  link(link: Link): void;
  failed(problem: ProblemError): void;
}

/** Receives an attempt's events in order of `seq`, each once. */
export interface EventSink {
  events(events: readonly AttemptEvent[]): void;
  /** How late the newest events were, in seconds; 0 when that is not worth telling. */
  lag?(seconds: number): void;
  /** The attempt itself changed, when the transport says so. */
  attempt(attempt: Attempt): void;
  link(link: Link): void;
  /** The attempt is over and every event was delivered. */
  end(): void;
  failed(problem: ProblemError): void;
}

/**
 * What the views need from the outside; they know nothing of HTTP, Jupyter or kernels.
 *
 * Methods reject with `ProblemError`.
 */
export interface Source {
  /** False when nothing is behind the view: a saved notebook opened without its kernel. */
  readonly live: ReadonlySignal<boolean>;

  listProjects(): Promise<Project[]>;
  watchTasks(projectId: string, sink: TaskSink): Dispose;
  /**
   * Start an attempt. Where a `version` is given, here and below, it is the task's as it was seen:
   * a task that somebody else changed since is refused with `version-conflict`.
   */
  startAttempt(taskId: string, version?: number): Promise<void>;

  getAttempt(attemptId: string): Promise<Attempt>;
  /** Follow the events after `after`, surviving lost connections. */
  watchEvents(attemptId: string, after: number, sink: EventSink): Dispose;
  /** The kept events just before one, in order; absent where only the newest are at hand. */
  eventsBefore?(attemptId: string, seq: number): Promise<EarlierEvents>;
  /** So many kept events after one, in order. */
  eventsAfter?(attemptId: string, seq: number, limit: number): Promise<EarlierEvents>;
  /**
   * Events in front of one that hold the words, in order: those nearest to it. Only a stretch of
   * the stream is looked at; `previous` says before which event to go on, null when there is none.
   */
  searchEvents?(attemptId: string, words: string, before: number): Promise<FoundEvents>;
  /** Where a file that an attempt left can be downloaded; absent where nothing can. */
  artifactAddress?(attemptId: string, name: string): string;
  cancelAttempt(attemptId: string, version?: number): Promise<void>;
  approveAttempt(attemptId: string, version?: number): Promise<void>;
  rejectAttempt(attemptId: string, reason: string, version?: number): Promise<void>;
  getDiff(attemptId: string): Promise<Diff>;

  listAudit(query: AuditQuery, cursor: string | null): Promise<AuditPage>;
  countAudit(query: AuditQuery): Promise<AuditCount[]>;
  /** The other views of the audit log. */
  readonly auditFacts: AuditFacts;

  /** Requests for access, newest first. */
  listAccessRequests(query: AccessQuery): Promise<AccessRequest[]>;
  grantAccess(requestId: string, scope: AccessScope): Promise<AccessRequest>;
  refuseAccess(requestId: string): Promise<AccessRequest>;
  /** Hear that something was denied, or perhaps decided, within about a second. */
  watchAccess(query: AccessQuery, callback: (denied: boolean) => void): Dispose;

  /** Withdraw a granted folder, from runs that are at work as well. */
  withdrawRoot(rootId: string): Promise<void>;

  getStack(): Promise<StackStatus>;
  /** Start the services; returns before they are ready. */
  startStack(): Promise<void>;

  /** Tell that a task is the chosen one. */
  selectTask(taskId: string): void;

  /** The audit filter that all views of this source share; null when each has its own. */
  sharedAuditFilter(): AuditQuery | null;

  /** Hear that what `getDiff`, `getStack` or the audit gives has changed, when the source can tell. */
  onChange(callback: () => void): Dispose;
}
