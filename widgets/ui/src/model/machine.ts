/** Wire types of the screens about the machine: verification, cost, disk, keys and agents. */
import type { AgentRole, AttemptStatus } from './types';

export interface AuditFinding {
  run_id: string;
  seq: number;
  id: number | null;
  kind: string;
  detail: string;
}

/** What a verification found so far; it goes on with `next`. */
export interface AuditVerification {
  ok: boolean;
  runs: number;
  entries: number;
  retained_away: number;
  findings: AuditFinding[];
  next: string | null;
}

/** What the agents of one role used for one project on one day. */
export interface CostRow {
  day: string;
  project: string;
  project_name: string;
  role: AgentRole;
  runs: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd: number;
  unpriced_runs: number;
}

export interface CostList {
  since: string;
  until: string;
  results: CostRow[];
}

export interface CostQuery {
  project?: string;
  since?: string;
  until?: string;
}

export interface DiskReport {
  measured_at: string | null;
  parts: { readonly [folder: string]: number };
  free_bytes: number;
  total_bytes: number;
}

export interface ProjectUse {
  id: string;
  name: string;
  event_bytes: number;
  file_bytes: number;
  max_bytes: number | null;
  days: number | null;
  state: 'ok' | 'warning' | 'full';
}

export interface DiskUse {
  disk: DiskReport;
  projects: ProjectUse[];
}

/** Where the key of a model comes from; its value is never told. */
export interface KeyReport {
  name: string;
  source: string | null;
}

export interface AgentProfile {
  id: string;
  name: string;
  provider: 'GLM' | 'GEMINI';
  model: string;
  role: AgentRole;
  base_url?: string | null;
  settings?: unknown;
  is_replay: boolean;
}

/** What came of asking a profile's model one small question. */
export interface AgentTest {
  ok: boolean;
  /** The typed reason why not, such as `PROVIDER_AUTH`. */
  failure?: string | null;
  message: string;
}

/** State and detail of one service, as the backend sees it. */
export interface Health {
  services: { readonly [name: string]: { state: string; detail: string } };
}

/** An attempt that is at work, or waits for its review. */
export interface LiveAttempt {
  id: string;
  number: number;
  status: AttemptStatus;
  task: string;
  task_title: string;
  project: string;
  project_name: string;
  started_at: string | null;
  denied_count: number;
  /** Its requests for access that nobody has decided yet. */
  pending_requests: number;
  waiting_for: string;
  failure: string | null;
  failure_message: string;
}

/** Something to hear of though nobody watched, such as a scheduled run that failed. */
export interface Notice {
  id: number;
  text: string;
  schedule_id: string | null;
  schedule_run_id: string | null;
  created_at: string;
}

export interface LiveReport {
  /** Those that ended in the last minutes. */
  ended: LiveAttempt[];
  live: LiveAttempt[];
  reviews: LiveAttempt[];
  pending_requests: number;
  /** Unread ones, the newest first. */
  notices: Notice[];
}
