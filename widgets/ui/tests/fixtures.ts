import { signal } from '@preact/signals';

import type {
  AccessQuery,
  AccessRequest,
  AccessScope,
  Attempt,
  AttemptEvent,
  AuditCount,
  AuditNode,
  AuditPage,
  AuditQuery,
  AuditRow,
  AuditTimeline,
  AuditTree,
  Project,
  StackStatus,
  Task
} from '../src/model/types';
import type { AuditVerification } from '../src/model/machine';
import { ProblemError } from '../src/model/problem';
import type { AuditFacts, AuditFormat } from '../src/source/machine';
import type { EventSink, Source, TaskSink } from '../src/source/source';

export const PROJECT: Project = { id: 'p1', name: 'calc' };

export function attempt(fields: Partial<Attempt> = {}): Attempt {
  return {
    id: 'a1',
    task: 't1',
    task_title: 'Task t1',
    project: 'p1',
    number: 1,
    status: 'RUNNING',
    branch_name: 'attempt/a1',
    base_commit: null,
    head_commit: null,
    started_at: null,
    completed_at: null,
    exit_code: null,
    failure: null,
    failure_message: null,
    agent: { name: 'Agent', provider: 'GLM', model: 'glm-7', is_replay: true },
    usage: {},
    last_seq: 0,
    denied_count: 0,
    created_at: '2026-01-01T00:00:00Z',
    gates: [],
    ...fields
  };
}

export function task(id: string, fields: Partial<Task> = {}): Task {
  return {
    id,
    project: 'p1',
    title: `Task ${id}`,
    description: '',
    status: 'TODO',
    priority: 0,
    agent_role: 'BACKEND',
    dependencies: [],
    blocked_by: [],
    auto_start: true,
    version: 1,
    created_at: '2026-01-01T00:00:00Z',
    latest_attempt: null,
    ...fields
  };
}

export function event(
  seq: number,
  type: AttemptEvent['type'],
  payload: AttemptEvent['payload']
): AttemptEvent {
  return { seq, type, payload, timestamp: '2026-01-01T00:00:00Z' };
}

export function auditRow(seq: number, fields: Partial<AuditRow> = {}): AuditRow {
  return {
    id: seq,
    run_id: 'r1',
    attempt: 'a1',
    seq,
    timestamp: '2026-01-01T00:00:00Z',
    operation: 'READ',
    result: 'ALLOWED',
    path: `/repo/file-${seq}.py`,
    source: 'tool',
    detail: {},
    ...fields
  };
}

export function accessRequest(id: string, fields: Partial<AccessRequest> = {}): AccessRequest {
  return {
    id,
    attempt: 'a1',
    task: 't1',
    project: 'p1',
    run_id: 'a1',
    folder: '/data/out',
    operation: 'WRITE',
    path: '/data/out/result.txt',
    program: '/usr/bin/bash',
    count: 1,
    status: 'PENDING',
    scope: null,
    granted_folder: '',
    decided_by: null,
    decided_at: null,
    expires_at: null,
    created_at: '2026-01-01T00:00:00Z',
    last_denied_at: '2026-01-01T00:00:00Z',
    ...fields
  };
}

/** The audit's other views, as the test sets them. */
export class FakeAuditFacts implements AuditFacts {
  readonly calls: string[] = [];
  folders: { [path: string]: AuditNode[] } = {};
  verifications: AuditVerification[] = [];

  async timeline(filter: AuditQuery): Promise<AuditTimeline> {
    this.calls.push(`timeline ${filter.result ?? 'all'}`);
    const timestamp = '2026-01-01T00:00:00Z';
    return { bucket_s: 1, buckets: [{ timestamp, allowed: 4, denied: 1 }] };
  }

  async tree(_filter: AuditQuery, path: string): Promise<AuditTree> {
    this.calls.push(`tree ${path}`);
    return { path, children: this.folders[path] ?? [], truncated: false };
  }

  async verify(scope: AuditQuery, cursor: string | null): Promise<AuditVerification> {
    this.calls.push(`verify ${scope.attempt ?? 'all'} ${cursor ?? 'start'}`);
    const next = this.verifications.shift();
    if (!next) {
      throw new ProblemError('The services do not answer.', 'http', 500);
    }
    return next;
  }

  address(filter: AuditQuery, format: AuditFormat): string {
    return `/audit?result=${filter.result ?? ''}&format=${format}`;
  }
}

/** A source under the test's control: it feeds the sinks and sees the calls. */
export class FakeSource implements Source {
  readonly live = signal(true);
  readonly calls: string[] = [];
  readonly auditFacts = new FakeAuditFacts();
  projects: Project[] = [PROJECT];
  current = attempt();
  rows: AuditRow[] = [];
  requests: AccessRequest[] = [];
  stack: StackStatus = { stack: null, local_access: null };
  accessNews: ((denied: boolean) => void) | null = null;
  pageSize = 100;
  /** Thrown by the next request. */
  problem: Error | null = null;
  taskSink: TaskSink | null = null;
  eventsBefore?: Source['eventsBefore'];
  eventsAfter?: Source['eventsAfter'];
  searchEvents?: Source['searchEvents'];
  eventSink: EventSink | null = null;

  async listProjects(): Promise<Project[]> {
    this.check('listProjects');
    return this.projects;
  }

  watchTasks(projectId: string, sink: TaskSink): () => void {
    this.calls.push(`watchTasks ${projectId}`);
    this.taskSink = sink;
    return () => undefined;
  }

  async startAttempt(taskId: string, version = 0): Promise<void> {
    this.check(`start ${taskId} at ${version}`);
  }

  async getAttempt(): Promise<Attempt> {
    this.check('getAttempt');
    return this.current;
  }

  watchEvents(_attemptId: string, after: number, sink: EventSink): () => void {
    this.calls.push(`watchEvents after ${after}`);
    this.eventSink = sink;
    return () => undefined;
  }

  async cancelAttempt(id: string): Promise<void> {
    this.check(`cancel ${id}`);
  }

  async approveAttempt(id: string): Promise<void> {
    this.check(`approve ${id}`);
  }

  async rejectAttempt(id: string, reason: string): Promise<void> {
    this.check(`reject ${id}: ${reason}`);
  }

  async getDiff(): Promise<never> {
    throw new Error('not part of these tests');
  }

  async listAudit(query: AuditQuery, cursor: string | null): Promise<AuditPage> {
    this.check(`audit ${query.result ?? 'all'} from ${cursor ?? 'start'}`);
    const rows = this.rows.filter(row => !query.result || row.result === query.result);
    const from = Number(cursor ?? 0);
    const to = from + this.pageSize;
    return { results: rows.slice(from, to), next: to < rows.length ? String(to) : null };
  }

  async countAudit(query: AuditQuery): Promise<AuditCount[]> {
    const rows = this.rows.filter(row => !query.result || row.result === query.result);
    return [{ operation: 'READ', result: query.result ?? 'ALLOWED', count: rows.length }];
  }

  async listAccessRequests(_query: AccessQuery): Promise<AccessRequest[]> {
    this.check('access');
    return this.requests;
  }

  async grantAccess(id: string, scope: AccessScope): Promise<AccessRequest> {
    this.check(`grant ${id} ${scope}`);
    return this.decideAs(id, { status: 'GRANTED', scope: scope === 'task' ? 'TASK' : 'ALWAYS' });
  }

  async refuseAccess(id: string): Promise<AccessRequest> {
    this.check(`refuse ${id}`);
    return this.decideAs(id, { status: 'REFUSED', scope: null });
  }

  watchAccess(_query: AccessQuery, callback: (denied: boolean) => void): () => void {
    this.accessNews = callback;
    return () => undefined;
  }

  async withdrawRoot(id: string): Promise<void> {
    this.check(`withdraw ${id}`);
    const roots = this.stack.local_access?.roots?.filter(root => root.id !== id);
    this.stack = { stack: null, local_access: { ...this.stack.local_access, roots } };
  }

  async getStack(): Promise<StackStatus> {
    return this.stack;
  }

  async startStack(): Promise<void> {
    this.check('startStack');
  }

  selectTask(id: string): void {
    this.calls.push(`select ${id}`);
  }

  sharedAuditFilter(): null {
    return null;
  }

  onChange(): () => void {
    return () => undefined;
  }

  private decideAs(id: string, fields: Partial<AccessRequest>): AccessRequest {
    this.requests = this.requests.map(one => (one.id === id ? { ...one, ...fields } : one));
    const found = this.requests.find(one => one.id === id);
    if (!found) {
      throw new Error(`no request ${id}`);
    }
    return found;
  }

  private check(call: string): void {
    this.calls.push(call);
    const { problem } = this;
    this.problem = null;
    if (problem) {
      throw problem;
    }
  }
}

/** Wait until an expectation holds; fails with its own message after four seconds. */
export async function eventually(expectation: () => void): Promise<void> {
  const deadline = Date.now() + 4000;
  for (;;) {
    try {
      expectation();
      return;
    } catch (reason) {
      if (Date.now() > deadline) {
        throw reason;
      }
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  }
}
