import type { Notice } from '../model/machine';
import type { Schedule, ScheduleFields, SchedulePreview, ScheduleRun } from '../model/schedule';
import type { Project } from '../model/types';
import { type Transport, query } from './transport';

const LIMIT = 200;

/**
 * Schedules, as panels of the Jupyter server offer them.
 *
 * Methods reject with `ProblemError`.
 */
export interface Schedules {
  list(): Promise<Schedule[]>;
  listProjects(): Promise<Project[]>;
  create(fields: ScheduleFields): Promise<Schedule>;
  update(id: string, fields: ScheduleFields): Promise<Schedule>;
  remove(id: string): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  runNow(id: string): Promise<void>;
  /** What a crontab means. */
  preview(crontab: string, timezone: string): Promise<SchedulePreview>;
  /** A schedule's history, the newest first. */
  runs(id: string): Promise<ScheduleRun[]>;
  cancel(run: ScheduleRun): Promise<void>;
  /** The executed notebook of a run. */
  report(scheduleId: string, runId: string): Promise<unknown>;
  /** What failed while nobody watched and was not read yet. */
  notices(): Promise<Notice[]>;
  readNotice(id: number): Promise<void>;
}

interface Listing<T> {
  results: T[];
}

/** `Schedules` over the REST API. */
export class HttpSchedules implements Schedules {
  constructor(private readonly transport: Transport) {}

  list(): Promise<Schedule[]> {
    return this.rows(`api/schedules/${query({ limit: LIMIT })}`);
  }

  listProjects(): Promise<Project[]> {
    return this.rows(`api/projects/${query({ limit: LIMIT })}`);
  }

  create(fields: ScheduleFields): Promise<Schedule> {
    return this.send('POST', 'api/schedules/', fields);
  }

  update(id: string, fields: ScheduleFields): Promise<Schedule> {
    return this.send('PATCH', `api/schedules/${id}/`, fields);
  }

  async remove(id: string): Promise<void> {
    await this.send('DELETE', `api/schedules/${id}/`);
  }

  async pause(id: string): Promise<void> {
    await this.send('POST', `api/schedules/${id}/pause/`, {});
  }

  async resume(id: string): Promise<void> {
    await this.send('POST', `api/schedules/${id}/resume/`, {});
  }

  async runNow(id: string): Promise<void> {
    await this.send('POST', `api/schedules/${id}/run/`, {});
  }

  preview(crontab: string, timezone: string): Promise<SchedulePreview> {
    return this.send('GET', `api/schedules/preview/${query({ crontab, timezone })}`);
  }

  runs(id: string): Promise<ScheduleRun[]> {
    return this.rows(`api/schedules/${id}/runs/${query({ limit: 50 })}`);
  }

  async cancel(run: ScheduleRun): Promise<void> {
    await this.send('POST', `api/schedules/${run.schedule_id}/runs/${run.id}/cancel/`, {});
  }

  report(scheduleId: string, runId: string): Promise<unknown> {
    return this.send('GET', `api/schedules/${scheduleId}/runs/${runId}/report/`);
  }

  notices(): Promise<Notice[]> {
    return this.rows(`api/notices/${query({ unread: 'true', limit: 20 })}`);
  }

  async readNotice(id: number): Promise<void> {
    await this.send('POST', `api/notices/${id}/read/`, {});
  }

  private async rows<T>(path: string): Promise<T[]> {
    return (await this.send<Listing<T>>('GET', path)).results;
  }

  private async send<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.transport.request(method, path, body)) as T;
  }
}
