import type { ReadonlySignal } from '@preact/signals';

import { sameFilter } from '../model/filter';
import type { AuditVerification, CostList } from '../model/machine';
import { ProblemError } from '../model/problem';
import type { Catalogue } from '../model/trans';
import type {
  AccessQuery,
  AccessRequest,
  AccessScope,
  Attempt,
  AttemptEvent,
  AuditCount,
  AuditPage,
  AuditQuery,
  AuditRow,
  AuditTimeline,
  AuditTree,
  Diff,
  EarlierEvents,
  FoundEvents,
  Project,
  StackStatus,
  Task
} from '../model/types';
import { Comm, type WidgetModel } from './comm';
import type { AuditFacts } from './machine';
import type { Dispose, EventSink, Source, TaskSink } from './source';
import type { Transport } from './transport';

/** Events that are read at a time when a reader goes back. */
const EARLIER = 500;

/** The `_state` trait: each widget fills the part that its view shows. */
interface WidgetState {
  project?: Project;
  tasks?: Task[];
  attempt?: Attempt;
  events?: AttemptEvent[];
  rows?: AuditRow[];
  next?: string | null;
  counts?: AuditCount[];
  filter?: AuditQuery;
  diff?: Diff;
  status?: StackStatus;
  costs?: CostList;
}

interface AuditAnswer {
  rows?: AuditRow[];
  next?: string | null;
  counts?: AuditCount[];
}

/** A notebook widget's model: state from its traits, changes by custom messages. */
export class ModelSource implements Source {
  readonly live: ReadonlySignal<boolean>;
  readonly auditFacts: AuditFacts = {
    timeline: async filter => (await this.act('timeline', { filter })) as AuditTimeline,
    tree: async (filter, path) => (await this.act('tree', { filter, path })) as AuditTree,
    verify: async () => (await this.act('verify', {})) as AuditVerification,
    // A notebook may be opened where no server answers.
    address: () => null
  };
  /** Settles once it is known whether a kernel answers. */
  get greeted(): Promise<void> {
    return this.comm.greeted;
  }

  /** What the forms of a view ask for, which the Python side allows or not. */
  readonly transport: Transport = {
    request: (method, path, body) =>
      method === 'GET' ? this.act('read', { path }) : this.act('write', { method, path, body }),
    // No address of the server's can be reached from a notebook for sure.
    httpUrl: path => path,
    socketUrl: path => path
  };
  private readonly comm: Comm;
  /** Settles once the last filter that was asked for is set, or refused. */
  private narrowing: Promise<unknown> = Promise.resolve();
  /** Choices of a task that Python has not answered yet. */
  private choosing = 0;
  private reselect: () => void = () => undefined;
  /** The attempt as last pushed, when that is newer than the state. */
  private pushedAttempt: Attempt | null = null;

  constructor(private readonly model: WidgetModel) {
    this.comm = new Comm(model);
    this.live = this.comm.live;
  }

  /** The state as the kernel, or the saved notebook, gives it now. */
  get state(): WidgetState {
    return (this.model.get('_state') ?? {}) as WidgetState;
  }

  dispose(): void {
    this.comm.dispose();
  }

  /** The messages of a language that the kernel has a language pack of; null for English. */
  async catalogue(language: string): Promise<Catalogue | null> {
    return language === '' || /^en\b/i.test(language.replace('_', '-'))
      ? null
      : ((await this.act('catalogue', { language })) as Catalogue | null);
  }

  async listProjects(): Promise<Project[]> {
    const { project } = this.state;
    return project ? [project] : [];
  }

  watchTasks(_projectId: string, sink: TaskSink): Dispose {
    const reread = (): void => sink.snapshot(this.state.tasks ?? []);
    const reselect = (): void => {
      // While own choices are on their way, what comes back is older than what is shown.
      if (this.choosing === 0) {
        sink.selected?.((this.model.get('selected') as string | null | undefined) ?? null);
      }
    };
    reread();
    reselect();
    sink.link('live');
    this.model.on('change:selected', reselect);
    const stop = this.follow(reread, (push, data) => {
      if (push === 'tasks') {
        sink.snapshot(data as Task[]);
      } else if (push === 'task') {
        sink.task(data as Task);
      }
    });
    this.reselect = reselect;
    return () => {
      this.model.off('change:selected', reselect);
      stop();
    };
  }

  async startAttempt(taskId: string, version?: number): Promise<void> {
    await this.act('start_attempt', { task_id: taskId, version });
  }

  async getAttempt(_attemptId: string): Promise<Attempt> {
    const attempt = this.pushedAttempt ?? this.state.attempt;
    if (!attempt) {
      throw new ProblemError('This view holds no attempt.', 'not-found');
    }
    return attempt;
  }

  watchEvents(_attemptId: string, after: number, sink: EventSink): Dispose {
    let last = after;
    const deliver = (events: readonly AttemptEvent[]): void => {
      const fresh = events.filter(event => event.seq > last);
      if (fresh.length === 0) {
        return;
      }
      last = fresh[fresh.length - 1]?.seq ?? last;
      sink.events(fresh);
      this.comm.tell('ack', { seq: last });
    };
    const reread = (): void => {
      const { attempt, events } = this.state;
      this.pushedAttempt = null;
      if (attempt) {
        sink.attempt(attempt);
      }
      deliver(events ?? []);
    };
    reread();
    sink.link('live');
    return this.follow(reread, (push, data) => {
      if (push === 'events') {
        deliver(data as AttemptEvent[]);
      } else if (push === 'status') {
        this.pushedAttempt = data as Attempt;
        sink.attempt(this.pushedAttempt);
      }
    });
  }

  async eventsBefore(_attemptId: string, seq: number): Promise<EarlierEvents> {
    return (await this.act('events_page', { before: seq, limit: EARLIER })) as EarlierEvents;
  }

  async eventsAfter(_attemptId: string, seq: number, limit: number): Promise<EarlierEvents> {
    return (await this.act('events_page', { after: seq, limit })) as EarlierEvents;
  }

  async searchEvents(_attemptId: string, words: string, before: number): Promise<FoundEvents> {
    return (await this.act('search_events', { words, before })) as FoundEvents;
  }

  async cancelAttempt(attemptId: string, version?: number): Promise<void> {
    await this.act('cancel', { attempt_id: attemptId, version });
  }

  async approveAttempt(attemptId: string, version?: number): Promise<void> {
    await this.act('approve', { attempt_id: attemptId, version });
  }

  async rejectAttempt(attemptId: string, reason: string, version?: number): Promise<void> {
    await this.act('reject', { attempt_id: attemptId, reason, version });
  }

  async getDiff(_attemptId: string): Promise<Diff> {
    const { diff } = this.state;
    if (!diff) {
      throw new ProblemError('This attempt has no changes yet.', 'no-diff');
    }
    return diff;
  }

  async listAudit(filter: AuditQuery, cursor: string | null): Promise<AuditPage> {
    if (!this.live.value) {
      return { results: cursor === null ? (this.state.rows ?? []) : [], next: null };
    }
    if (cursor === null && sameFilter(filter, this.state.filter ?? {})) {
      return { results: this.state.rows ?? [], next: this.state.next ?? null };
    }
    let asked: Promise<unknown>;
    if (cursor === null) {
      asked = this.act('set_filter', { filter });
      this.narrowing = asked.catch(() => undefined);
    } else {
      asked = this.act('load_more', { cursor });
    }
    const answer = (await asked) as AuditAnswer | null;
    return {
      results: answer?.rows ?? this.state.rows ?? [],
      next: answer ? (answer.next ?? null) : (this.state.next ?? null)
    };
  }

  async countAudit(_filter: AuditQuery): Promise<AuditCount[]> {
    // The state has the counts of a filter once that is set.
    await this.narrowing;
    return this.state.counts ?? [];
  }

  async listAccessRequests(_query: AccessQuery): Promise<AccessRequest[]> {
    return this.live.value ? ((await this.act('access_requests', {})) as AccessRequest[]) : [];
  }

  async grantAccess(requestId: string, scope: AccessScope): Promise<AccessRequest> {
    return (await this.act('grant_access', { request_id: requestId, scope })) as AccessRequest;
  }

  async refuseAccess(requestId: string): Promise<AccessRequest> {
    return (await this.act('refuse_access', { request_id: requestId })) as AccessRequest;
  }

  watchAccess(_query: AccessQuery, callback: (denied: boolean) => void): Dispose {
    // The audit widget renews its state with each denial, which its view hears of anyway.
    return this.onChange(() => callback(false));
  }

  async withdrawRoot(rootId: string): Promise<void> {
    await this.act('withdraw_root', { root_id: rootId });
  }

  async getStack(): Promise<StackStatus> {
    const { status } = this.state;
    if (!status) {
      throw new ProblemError('The state of the services is not known yet.', 'no-status');
    }
    return status;
  }

  async startStack(): Promise<void> {
    throw new ProblemError('Start the services with `rootbound up`.', 'not-here');
  }

  selectTask(taskId: string): void {
    if (!this.live.value) {
      return;
    }
    this.choosing += 1;
    void this.comm
      .call('select', { task_id: taskId })
      .catch(() => undefined)
      .then(() => {
        this.choosing -= 1;
        this.reselect();
      });
  }

  sharedAuditFilter(): AuditQuery | null {
    return this.state.filter ?? {};
  }

  onChange(callback: () => void): Dispose {
    this.model.on('change:_state', callback);
    return () => this.model.off('change:_state', callback);
  }

  private follow(reread: () => void, pushed: (push: string, data: unknown) => void): Dispose {
    const stopListening = this.comm.listen(pushed);
    const stopState = this.onChange(reread);
    return () => {
      stopListening();
      stopState();
    };
  }

  private async act(method: string, params: { readonly [key: string]: unknown }): Promise<unknown> {
    if (!this.live.value) {
      throw new ProblemError('This is a snapshot; run the cell again to act on it.', 'snapshot');
    }
    return this.comm.call(method, params);
  }
}
