/** Wire types of planning and reviewing. */
import type { AgentRole, AttemptStatus, DiffSize, Task } from './types';

/** What of a task a person writes. */
export interface TaskFields {
  title: string;
  description: string;
  agent_role: AgentRole;
  priority: number;
  dependencies: string[];
  auto_start: boolean;
}

/** One task of a plan; `depends_on` names keys of others in it. */
export interface PlanTask {
  key: string;
  title: string;
  description: string;
  role: AgentRole;
  priority?: number;
  depends_on?: string[];
  acceptance?: string | string[] | null;
  files?: string[];
}

export interface Plan {
  summary: string;
  tasks: PlanTask[];
}

export type PlanStatus = 'PENDING' | 'READY' | 'APPROVED' | 'FAILED';

/** A wish, the PM agent's plan of it, and the tasks made of the plan. */
export interface Decomposition {
  id: string;
  project: string;
  user_prompt: string;
  pm_response: string;
  plan: Plan | null;
  status: PlanStatus;
  failure: string | null;
  failure_message: string | null;
  tasks_created: string[];
  auto_approve: boolean;
  created_at: string;
}

/** What merging would do now. */
export interface MergePreview {
  base_branch: string;
  base: string;
  head: string;
  behind: number;
  clean: boolean;
  merged: boolean;
  files: string[];
  checkout: string | null;
  checkout_dirty: boolean;
}

export interface ComparedGate {
  exit_code: number | null;
  duration_s: number;
  flaky: boolean;
  at_head: boolean;
}

/** One attempt beside the others of its task. */
export interface Comparison {
  id: string;
  number: number;
  status: AttemptStatus;
  failure: string | null;
  agent: string;
  model: string;
  continues: string | null;
  diff_stats: DiffSize;
  gates: { readonly [name: string]: ComparedGate };
  cost_usd: number | null;
  steps: number;
  tokens: number;
  seconds: number | null;
  denied_count: number;
  comments: number;
  summary: string;
}

/** Where a comment is put: a line of one side, a file, or (with an empty path) the whole. */
export interface Place {
  path: string;
  side: 'old' | 'new';
  line: number | null;
}

export const ROLES: readonly AgentRole[] = ['PM', 'FRONTEND', 'BACKEND', 'QA', 'DEVOPS'];

/** What a person can change of a task. */
export function fieldsOf(task: Task): TaskFields {
  const { title, description, agent_role, priority, dependencies, auto_start } = task;
  return { title, description, agent_role, priority, dependencies, auto_start };
}

/** What a repository offers to start from and to merge into. */
export interface Branches {
  checked_out: string | null;
  branches: string[];
}
