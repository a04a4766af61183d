import { signal } from '@preact/signals';

import { ProblemError, asProblem } from '../model/problem';
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
  LocalAccessReport,
  Project,
  StackReport,
  StackStatus,
  Task
} from '../model/types';
import { watchDenials } from './denials';
import { type AuditFacts, HttpAuditFacts } from './machine';
import { keepSocket } from './socket';
import type { Dispose, EventSink, Source, TaskSink } from './source';
import { type Transport, query } from './transport';

const PAGE = 200;
const AUDIT_PAGE = 1000;

interface ListAnswer<T> {
  results: T[];
  next: string | null;
}

type BoardFrame =
  | { type: 'snapshot'; tasks: Task[] }
  | { type: 'task'; task: Task }
  | { type: 'task_deleted'; id: string };

type AttemptFrame =
  | { type: 'hello'; last_seq: number; status: string }
  | { type: 'events'; events: AttemptEvent[]; lag_s?: number }
  | { type: 'end'; status: string; last_seq: number };

/** Events that a view begins with. */
const TAIL = 2000;

/** Events that are read at a time when a reader goes back beyond that. */
const EARLIER = 1000;

/** Events that one answer to a search holds at most. */
const FOUND = 100;

/** Tell the server that a board's frame arrived; until then it keeps later ones back. */
function acknowledge(frame: unknown, send: (frame: unknown) => void): void {
  const { seq } = frame as { seq?: unknown };
  if (typeof seq === 'number') {
    send({ type: 'ack', seq });
  }
}

/** REST and WebSocket through Jupyter's `{base_url}rootbound/` prefix. */
export class HttpSource implements Source {
  readonly live = signal(true);
  readonly auditFacts: AuditFacts;

  constructor(private readonly transport: Transport) {
    this.auditFacts = new HttpAuditFacts(transport);
  }

  async listProjects(): Promise<Project[]> {
    return this.all<Project>('api/projects/');
  }

  watchTasks(projectId: string, sink: TaskSink): Dispose {
    return keepSocket({
      url: () => this.transport.socketUrl(`ws/projects/${projectId}/`),
      message: (raw, send) => {
        const frame = raw as BoardFrame;
        acknowledge(raw, send);
        if (frame.type === 'snapshot') {
          sink.snapshot(frame.tasks);
        } else if (frame.type === 'task') {
          sink.task(frame.task);
        } else if (frame.type === 'task_deleted') {
          sink.deleted(frame.id);
        }
      },
      link: link => sink.link(link),
      closed: code => {
        if (code === 4404) {
          sink.failed(new ProblemError('This project no longer exists.', 'not-found', 404));
        } else {
          sink.link('lost');
        }
      }
    });
  }

  async startAttempt(taskId: string, version?: number): Promise<void> {
    await this.transport.request('POST', `api/tasks/${taskId}/attempts/`, { version });
  }

  async getAttempt(attemptId: string): Promise<Attempt> {
    return (await this.transport.request('GET', `api/attempts/${attemptId}/`)) as Attempt;
  }

  watchEvents(attemptId: string, after: number, sink: EventSink): Dispose {
    let last = after;
    let over = false;
    return keepSocket({
      // A long stream opens at its end; one that is gone on with has no gap.
      url: () =>
        this.transport.socketUrl(
          `ws/attempts/${attemptId}/${query(last > 0 ? { after: last } : { tail: TAIL })}`
        ),
      message: (raw, send) => {
        const frame = raw as AttemptFrame;
        if (frame.type === 'events') {
          // A frame that crossed a reconnection may repeat what we have.
          const fresh = frame.events.filter(event => event.seq > last);
          last = fresh[fresh.length - 1]?.seq ?? last;
          if (fresh.length > 0) {
            sink.events(fresh);
          }
          sink.lag?.(frame.lag_s ?? 0);
          send({ type: 'ack', seq: last });
        } else if (frame.type === 'end') {
          over = true;
          sink.end();
        }
      },
      link: link => sink.link(link),
      closed: code => {
        if (code === 4404) {
          sink.failed(new ProblemError('This attempt no longer exists.', 'not-found', 404));
        } else if (!over) {
          sink.link('lost');
        }
      }
    });
  }

  async eventsBefore(attemptId: string, seq: number): Promise<EarlierEvents> {
    const path = `api/attempts/${attemptId}/events/${query({ before: seq, limit: EARLIER })}`;
    return (await this.transport.request('GET', path)) as EarlierEvents;
  }

  async eventsAfter(attemptId: string, seq: number, limit: number): Promise<EarlierEvents> {
    const path = `api/attempts/${attemptId}/events/${query({ after: seq, limit })}`;
    return (await this.transport.request('GET', path)) as EarlierEvents;
  }

  async searchEvents(attemptId: string, words: string, before: number): Promise<FoundEvents> {
    const path = `api/attempts/${attemptId}/events/${query({ q: words, before, limit: FOUND })}`;
    return (await this.transport.request('GET', path)) as FoundEvents;
  }

  artifactAddress(attemptId: string, name: string): string {
    return this.transport.httpUrl(
      `api/attempts/${attemptId}/artifacts/${encodeURIComponent(name)}/`
    );
  }

  async cancelAttempt(attemptId: string, version?: number): Promise<void> {
    await this.transport.request('POST', `api/attempts/${attemptId}/cancel/`, { version });
  }

  async approveAttempt(attemptId: string, version?: number): Promise<void> {
    await this.transport.request('POST', `api/attempts/${attemptId}/approve/`, { version });
  }

  async rejectAttempt(attemptId: string, reason: string, version?: number): Promise<void> {
    await this.transport.request('POST', `api/attempts/${attemptId}/reject/`, { reason, version });
  }

  async getDiff(attemptId: string): Promise<Diff> {
    return (await this.transport.request('GET', `api/attempts/${attemptId}/diff/`)) as Diff;
  }

  async listAudit(filter: AuditQuery, cursor: string | null): Promise<AuditPage> {
    // Who goes on reading goes far: the first page is quick, the others are large.
    const limit = cursor === null ? PAGE : AUDIT_PAGE;
    const path = `api/audit/logs/${query({ ...filter, limit, cursor })}`;
    return (await this.transport.request('GET', path)) as AuditPage;
  }

  async countAudit(filter: AuditQuery): Promise<AuditCount[]> {
    const path = `api/audit/summary/${query({ ...filter })}`;
    return ((await this.transport.request('GET', path)) as { counts: AuditCount[] }).counts;
  }

  async listAccessRequests(scope: AccessQuery): Promise<AccessRequest[]> {
    const path = `api/access-requests/${query({ ...scope, limit: PAGE })}`;
    return ((await this.transport.request('GET', path)) as ListAnswer<AccessRequest>).results;
  }

  async grantAccess(requestId: string, scope: AccessScope): Promise<AccessRequest> {
    const path = `api/access-requests/${requestId}/grant/`;
    return (await this.transport.request('POST', path, { scope })) as AccessRequest;
  }

  async refuseAccess(requestId: string): Promise<AccessRequest> {
    const path = `api/access-requests/${requestId}/refuse/`;
    return (await this.transport.request('POST', path, {})) as AccessRequest;
  }

  watchAccess(scope: AccessQuery, callback: (denied: boolean) => void): Dispose {
    return watchDenials(this, scope, callback);
  }

  async withdrawRoot(rootId: string): Promise<void> {
    await this.transport.request('DELETE', `api/local-access/roots/${rootId}/`);
  }

  async getStack(): Promise<StackStatus> {
    // While the services start, only the extension itself can answer; that is not a failure here.
    const [stack, access] = await Promise.allSettled([
      this.transport.request('GET', 'stack'),
      this.transport.request('GET', 'api/local-access/status/')
    ]);
    if (stack.status === 'rejected' && access.status === 'rejected') {
      throw asProblem(stack.reason);
    }
    return {
      stack: stack.status === 'fulfilled' ? (stack.value as StackReport) : null,
      local_access: access.status === 'fulfilled' ? (access.value as LocalAccessReport) : null
    };
  }

  async startStack(): Promise<void> {
    await this.transport.request('POST', 'stack', {});
  }

  selectTask(_taskId: string): void {
    // The server keeps no selection.
  }

  sharedAuditFilter(): AuditQuery | null {
    return null;
  }

  onChange(_callback: () => void): Dispose {
    return () => undefined;
  }

  private async all<T>(path: string): Promise<T[]> {
    const rows: T[] = [];
    let cursor: string | null = null;
    do {
      const answer = (await this.transport.request(
        'GET',
        path + query({ limit: PAGE, cursor })
      )) as ListAnswer<T>;
      rows.push(...answer.results);
      cursor = answer.next;
    } while (cursor !== null);
    return rows;
  }
}
