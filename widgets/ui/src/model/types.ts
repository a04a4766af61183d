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
  /** Branch that work starts from and is merged into. */
  default_branch?: string;
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
  /** It had failed at this very commit and passed when it was run again. */
  flaky?: boolean;
}

export interface AgentSnapshot {
  name: string;
  provider: string;
  model: string;
  is_replay: boolean;
  /** Null where the profile leaves the limit to the local agent. */
  max_steps?: number | null;
}

export interface Usage {
  steps?: number;
  input_tokens?: number;
  output_tokens?: number;
  cost_usd?: number | null;
}

/** How much an attempt changes; empty before there is a commit. */
export interface DiffSize {
  files?: number;
  additions?: number;
  deletions?: number;
  tests?: string[];
}

/** What a reviewer says about a line of the diff, a file, or (with an empty path) the attempt. */
export interface ReviewComment {
  id: string;
  attempt: string;
  author: string;
  path: string;
  side: 'old' | 'new';
  line: number | null;
  commit: string | null;
  text: string;
  created_at: string;
}

export interface Attempt {
  id: string;
  task: string;
  task_title: string;
  project: string;
  /** The task's version, to decide on it as it was seen; views saved long ago lack it. */
  task_version?: number;
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
  /** Its place among all that wait, from 1. */
  queue_place?: number | null;
  /** The attempt whose work it goes on with. */
  continues?: string | null;
  summary?: string;
  diff_stats?: DiffSize;
  agent: AgentSnapshot | null;
  usage: Usage | null;
  /** The lowest event that is kept. */
  first_seq?: number;
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
  failed_dependencies?: string[];
  /** Why it does not go on; empty when nothing holds it. */
  waiting_reason?: string;
  queue_place?: number | null;
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

/** A page of an attempt's events, and the first one that is kept. */
export interface EarlierEvents {
  readonly results: readonly AttemptEvent[];
  readonly first_seq: number;
}

/** What a search found in a stretch of an attempt's events, and where to go on looking. */
export interface FoundEvents {
  readonly results: readonly AttemptEvent[];
  readonly previous: number | null;
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
  /** Chains the entry to the one before it. */
  hash?: string;
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
  glob?: string;
  program?: string;
  source?: string;
  since?: string;
  until?: string;
}

/** A file or folder that was touched, counted with all it holds. */
export interface AuditNode {
  name: string;
  path: string;
  is_folder: boolean;
  read: number;
  write: number;
  delete: number;
  denied: number;
  total: number;
}

/** What was touched directly below a folder, the busiest first. */
export interface AuditTree {
  path: string;
  children: AuditNode[];
  truncated: boolean;
}

export interface AuditBucket {
  timestamp: string;
  allowed: number;
  denied: number;
}

/** Counts by time, oldest first; stretches without entries are left out. */
export interface AuditTimeline {
  bucket_s: number;
  buckets: AuditBucket[];
}

export interface AuditPage {
  results: AuditRow[];
  next: string | null;
}

export type AccessStatus = 'PENDING' | 'GRANTED' | 'REFUSED' | 'EXPIRED';

/** How far a grant reaches, as the user chooses it. */
export type AccessScope = 'task' | 'always';

/** A place where an attempt was denied an operation, put to the user. */
export interface AccessRequest {
  id: string;
  attempt: string;
  task: string;
  project: string;
  run_id: string;
  folder: string;
  operation: AuditOperation;
  path: string;
  program: string;
  count: number;
  status: AccessStatus;
  scope: 'TASK' | 'ALWAYS' | null;
  granted_folder: string;
  decided_by: string | null;
  decided_at: string | null;
  expires_at: string | null;
  created_at: string;
  last_denied_at: string;
}

export interface AccessQuery {
  attempt?: string;
  project?: string;
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
  /** Whether the file, by its name, is a test. */
  test?: boolean;
  /** Whether the patch is of a notebook's cells, not of its JSON. */
  by_cell?: boolean;
  /** What changed in a notebook, cell by cell. */
  notebook?: NotebookDiff;
}

/** A value that is another one now, as JSON; null where there was none. */
export interface MetadataChange {
  key: string;
  before: string | null;
  after: string | null;
}

export interface PictureChange {
  mime: string;
  /** As base64; null where there is none, or it was left out. */
  before: string | null;
  after: string | null;
  left_out: boolean;
}

export interface NotebookOutput {
  kind: 'added' | 'modified' | 'deleted';
  name: string;
  patch: string;
  truncated: boolean;
  pictures: PictureChange[];
  /** MIME types that differ and are not shown. */
  others: string[];
}

export interface NotebookCell {
  kind: 'added' | 'modified' | 'deleted' | 'moved';
  cell_type: 'code' | 'markdown' | 'raw';
  cell_id: string;
  execution_count: number | null;
  /** Its number from 1, before and now. */
  before: number | null;
  after: number | null;
  /** Where it begins in the notebook's text, whose lines comments are at. */
  before_line: number | null;
  after_line: number | null;
  patch: string;
  truncated: boolean;
  outputs: NotebookOutput[];
  metadata: MetadataChange[];
}

export interface NotebookDiff {
  cells: NotebookCell[];
  metadata: MetadataChange[];
  /** Why cells are left out, or the notebook is not compared by cell. */
  note: string | null;
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
  autostart?: string;
  /** The folder that Jupyter's file browser shows, on this machine. */
  files_root?: string | null;
  /** The Python of this installation. */
  python?: string;
}

/** A promise of the confinement, and what keeps it here; null when nothing does. */
export interface GuaranteeReport {
  title: string;
  by: string | null;
}

export interface SandboxReport {
  tier?: string;
  missing?: string[];
  guarantees?: GuaranteeReport[];
}

export interface LdaReport {
  reachable: boolean;
  version?: string;
  url?: string;
  sandbox?: SandboxReport;
  outbox_depth?: number;
  live_runs?: number;
  /** Places that no grant opens, those that exist on this machine. */
  protected?: string[];
  detail?: string;
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
