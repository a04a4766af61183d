import type {
  AgentProfile,
  AgentTest,
  AuditVerification,
  CostList,
  CostQuery,
  DiskUse,
  Health,
  KeyReport
} from '../model/machine';
import type {
  AuditQuery,
  AuditTimeline,
  AuditTree,
  Project,
  StackReport,
  Task,
  WritableRoot
} from '../model/types';
import type { Transport } from './transport';
import { query } from './transport';

/** Views of the audit log beside its rows; the panel asks the API, a widget its kernel. */
export interface AuditFacts {
  timeline(filter: AuditQuery): Promise<AuditTimeline>;
  /** What was touched directly below a folder. */
  tree(filter: AuditQuery, path: string): Promise<AuditTree>;
  /** Verify some entries; go on with the answer's `next`. */
  verify(scope: AuditQuery, cursor: string | null): Promise<AuditVerification>;
  /** The API's own address of what is shown; null where the view has no server to name. */
  address(filter: AuditQuery, format: AuditFormat): string | null;
}

export type AuditFormat = 'json' | 'ndjson' | 'csv';

/** Tokens and money. */
export interface Costs {
  costs(wanted: CostQuery): Promise<CostList>;
}

export interface NewProject {
  name: string;
  repo_path: string;
  /** Default the one that is checked out. */
  default_branch?: string;
  config: { install_cmd?: string; lint_cmd?: string; test_cmd?: string };
}

/** What can be done to the machine; only panels of the Jupyter server offer it. */
export interface Machine extends Costs {
  grantRoot(path: string): Promise<WritableRoot>;
  enableRoot(rootId: string, isEnabled: boolean): Promise<void>;
  withdrawRoot(rootId: string): Promise<void>;

  stack(): Promise<StackReport>;
  startStack(): Promise<void>;
  restartService(name: string): Promise<void>;
  /** The end of a service's log. */
  serviceLog(name: string, lines: number): Promise<string>;
  health(): Promise<Health>;
  diskUse(): Promise<DiskUse>;

  listKeys(): Promise<KeyReport[]>;
  listAgents(): Promise<AgentProfile[]>;
  createAgent(role: AgentProfile['role'], provider: AgentProfile['provider']): Promise<void>;
  /** Ask a profile's model one small question. */
  testAgent(agentId: string): Promise<AgentTest>;
  listProjects(): Promise<Project[]>;
  createProject(project: NewProject): Promise<Project>;
  setCommands(projectId: string, config: NewProject['config']): Promise<void>;
  createTask(projectId: string, title: string, description: string): Promise<Task>;
  /** Start an attempt and return its id. */
  startAttempt(taskId: string): Promise<string>;
}

interface Listing<T> {
  results: T[];
}

const LIMIT = 200;

/** `AuditFacts` over the REST API. */
export class HttpAuditFacts implements AuditFacts {
  constructor(private readonly transport: Transport) {}

  async timeline(filter: AuditQuery): Promise<AuditTimeline> {
    return (await this.transport.request(
      'GET',
      `api/audit/timeline/${query({ ...filter })}`
    )) as AuditTimeline;
  }

  async tree(filter: AuditQuery, path: string): Promise<AuditTree> {
    return (await this.transport.request(
      'GET',
      `api/audit/tree/${query({ ...filter, path })}`
    )) as AuditTree;
  }

  async verify(scope: AuditQuery, cursor: string | null): Promise<AuditVerification> {
    const { attempt, project } = scope;
    return (await this.transport.request(
      'GET',
      `api/audit/verify/${query({ attempt, project, cursor })}`
    )) as AuditVerification;
  }

  address(filter: AuditQuery, format: AuditFormat): string {
    const chosen = format === 'json' ? {} : { format };
    return this.transport.httpUrl(`api/audit/logs/${query({ ...filter, ...chosen })}`);
  }
}

/** `Machine` over the REST API and the server extension's own routes. */
export class HttpMachine implements Machine {
  constructor(private readonly transport: Transport) {}

  async costs(wanted: CostQuery): Promise<CostList> {
    const time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    return this.get<CostList>(`api/costs/${query({ ...wanted, time_zone })}`);
  }

  async grantRoot(path: string): Promise<WritableRoot> {
    return this.post<WritableRoot>('api/local-access/roots/', { path });
  }

  async enableRoot(rootId: string, isEnabled: boolean): Promise<void> {
    await this.transport.request('PATCH', `api/local-access/roots/${rootId}/`, {
      is_enabled: isEnabled
    });
  }

  async withdrawRoot(rootId: string): Promise<void> {
    await this.transport.request('DELETE', `api/local-access/roots/${rootId}/`);
  }

  async stack(): Promise<StackReport> {
    return this.get<StackReport>('stack');
  }

  async startStack(): Promise<void> {
    await this.post('stack', {});
  }

  async restartService(name: string): Promise<void> {
    await this.post('stack', { restart: name });
  }

  async serviceLog(name: string, lines: number): Promise<string> {
    return (await this.get<{ text: string }>(`stack/logs/${name}${query({ lines })}`)).text;
  }

  async health(): Promise<Health> {
    return this.get<Health>('api/health/');
  }

  async diskUse(): Promise<DiskUse> {
    return this.get<DiskUse>('api/usage/');
  }

  async listKeys(): Promise<KeyReport[]> {
    return (await this.get<Listing<KeyReport>>('api/keys/')).results;
  }

  async listAgents(): Promise<AgentProfile[]> {
    return (await this.get<Listing<AgentProfile>>(`api/agents/${query({ limit: LIMIT })}`)).results;
  }

  async createAgent(
    role: AgentProfile['role'],
    provider: AgentProfile['provider']
  ): Promise<void> {
    await this.post('api/agents/', { name: `${provider} ${role}`, role, provider });
  }

  async testAgent(agentId: string): Promise<AgentTest> {
    return this.post<AgentTest>(`api/agents/${agentId}/test/`, {});
  }

  async listProjects(): Promise<Project[]> {
    return (await this.get<Listing<Project>>(`api/projects/${query({ limit: LIMIT })}`)).results;
  }

  async createProject(project: NewProject): Promise<Project> {
    return this.post<Project>('api/projects/', project);
  }

  async setCommands(projectId: string, config: NewProject['config']): Promise<void> {
    await this.transport.request('PATCH', `api/projects/${projectId}/`, { config });
  }

  async createTask(projectId: string, title: string, description: string): Promise<Task> {
    return this.post<Task>(`api/projects/${projectId}/tasks/`, {
      title,
      description,
      agent_role: 'BACKEND'
    });
  }

  async startAttempt(taskId: string): Promise<string> {
    return (await this.post<{ id: string }>(`api/tasks/${taskId}/attempts/`, {})).id;
  }

  private async get<T>(path: string): Promise<T> {
    return (await this.transport.request('GET', path)) as T;
  }

  private async post<T>(path: string, body: unknown): Promise<T> {
    return (await this.transport.request('POST', path, body)) as T;
  }
}
