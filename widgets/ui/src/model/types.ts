/**
 * The backend's wire types, as the views read them.
 *
 * Field names are the REST API's own (snake_case): one concept, one name, on both sides.
 */

export type TaskStatus = 'TODO' | 'IN_PROGRESS' | 'REVIEW' | 'DONE';

export type AttemptStatus = 'QUEUED' | 'RUNNING' | 'GATES' | 'REVIEW' | 'SUCCESS' | 'FAILED';

export type AgentRole = 'PM' | 'FRONTEND' | 'BACKEND' | 'QA' | 'DEVOPS';

export type GateName = 'install' | 'lint' | 'test';

export interface ProjectConfig {
  install_cmd?: string | null;
  lint_cmd?: string | null;
  test_cmd?: string | null;
}

export interface Project {
  id: string;
  name: string;
  repo_path?: string;
  config?: ProjectConfig;
  task_counts?: Partial<Record<TaskStatus, number>>;
}

export interface Gate {
  name: GateName;
  commit: string;
  command: string;
  exit_code: number;
  duration_s: number;
  log_digest: string;
  log_artifact: string | null;
}

export interface AgentSnapshot {
  name: string;
  provider: string;
  model: string;
  is_replay: boolean;
}

export interface Usage {
  steps?: number;
  input_tokens?: number;
  output_tokens?: number;
  cost_usd?: number | null;
}

export interface Attempt {
  id: string;
  task: string;
  project: string;
  number: number;
  status: AttemptStatus;
  branch_name: string;
  base_commit: string | null;
  head_commit: string | null;
  started_at: string | null;
  completed_at: string | null;
  exit_code: number | null;
  failure: string | null;
  failure_message: string | null;
  /** Why a queued attempt has not begun; empty when nothing holds it. */
  waiting_for?: string;
  agent: AgentSnapshot | null;
  usage: Usage | null;
  last_seq: number;
  denied_count: number;
  created_at: string;
  gates: Gate[];
}

export interface Task {
  id: string;
  project: string;
  title: string;
  description: string;
  status: TaskStatus;
  priority: number;
  agent_role: AgentRole;
  dependencies: string[];
  blocked_by: string[];
  auto_start: boolean;
  version: number;
  created_at: string;
  latest_attempt: Attempt | null;
}

/** An attempt's event. `payload` is one of the LDA's kinds; unknown kinds must not break a view. */
export interface AttemptEvent {
  seq: number;
  timestamp: string;
  type: 'LOG' | 'ERROR' | 'ARTIFACT' | 'STATUS';
  payload: EventPayload;
}

export type EventPayload = { readonly [key: string]: unknown };

export type AuditOperation = 'READ' | 'WRITE' | 'DELETE';

export type AuditResult = 'ALLOWED' | 'DENIED';

export interface AuditRow {
  id: number | string;
  run_id: string;
  attempt: string | null;
  seq: number;
  timestamp: string;
  operation: AuditOperation;
  result: AuditResult;
  path: string;
  source: string;
  detail: { readonly [key: string]: unknown };
}

export interface AuditCount {
  operation: AuditOperation;
  result: AuditResult;
  count: number;
}

export interface AuditQuery {
  attempt?: string;
  project?: string;
  operation?: AuditOperation;
  result?: AuditResult;
  path_prefix?: string;
}

export interface AuditPage {
  results: AuditRow[];
  next: string | null;
}

export interface DiffFile {
  path: string;
  old_path: string | null;
  status: 'added' | 'modified' | 'deleted' | 'renamed';
  additions: number;
  deletions: number;
  binary: boolean;
  patch: string;
  truncated: boolean;
}

export interface Diff {
  base: string;
  head: string;
  files: DiffFile[];
  stats: { files: number; additions: number; deletions: number };
}

export type ServiceState = 'starting' | 'ready' | 'stopped' | 'failed';

export interface ServiceReport {
  state?: ServiceState | string;
  address?: string | null;
  pid?: number | null;
  message?: string | null;
  detail?: string | null;
}

/** What the Jupyter extension says of the services, before the backend itself can answer. */
export interface StackReport {
  state?: string;
  message?: string | null;
  rootbound?: string;
  started_at?: string | null;
  services?: { readonly [name: string]: ServiceReport | string };
}

export interface SandboxReport {
  tier?: string;
  missing?: string[];
}

export interface LdaReport {
  reachable: boolean;
  version?: string;
  url?: string;
  sandbox?: SandboxReport;
  outbox_depth?: number;
  live_runs?: number;
}

export interface WritableRoot {
  id: string;
  path: string;
  canonical_path: string;
  is_enabled: boolean;
}

export interface LocalAccessReport {
  lda?: LdaReport;
  roots?: WritableRoot[];
}

/** Both reports; either is null when its source did not answer. */
export interface StackStatus {
  stack: StackReport | null;
  local_access: LocalAccessReport | null;
}

const LIVE: ReadonlySet<AttemptStatus> = new Set<AttemptStatus>(['QUEUED', 'RUNNING', 'GATES']);

/** Whether an agent or a gate is at work on the attempt, so that it can be cancelled. */
export function isLive(status: AttemptStatus): boolean {
  return LIVE.has(status);
}

/** Whether the attempt will produce no further events. */
export function isTerminal(status: AttemptStatus): boolean {
  return status === 'SUCCESS' || status === 'FAILED';
}
