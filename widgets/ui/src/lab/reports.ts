import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import { type Contents, Drive } from '@jupyterlab/services';

import type { ScheduleRun } from '../model/schedule';
import type { Schedules } from '../source/schedules';

const DRIVE = 'RootboundReports';

/** Reports of scheduled runs as files of Lab that can be read only; they lie in no served folder. */
class ReportDrive extends Drive {
  constructor(private readonly schedules: Schedules) {
    super({ name: DRIVE });
  }

  override async get(path: string): Promise<Contents.IModel> {
    const [schedule, run, name] = path.split('/');
    const isReport = schedule && run && name;
    const content = isReport ? await this.schedules.report(schedule, run) : [];
    const now = new Date().toISOString();
    return {
      name: name ?? '',
      path,
      type: isReport ? 'notebook' : 'directory',
      format: 'json',
      mimetype: '',
      writable: false,
      created: now,
      last_modified: now,
      content
    };
  }

  override async listCheckpoints(): Promise<Contents.ICheckpointModel[]> {
    return [];
  }
}

/** Make reports readable to Lab; returns the way to open one. */
export function addReports(
  app: JupyterFrontEnd,
  documents: IDocumentManager,
  schedules: Schedules
): (run: ScheduleRun) => void {
  app.serviceManager.contents.addDrive(new ReportDrive(schedules));
  return run => {
    const day = run.created_at.slice(0, 16).replace(/[T:]/g, '-');
    const path = `${DRIVE}:${run.schedule_id}/${run.id}/report-${day}.ipynb`;
    // To be read: no kernel is started for it, which would also have changed its metadata.
    documents.openOrReveal(path, 'default', undefined, undefined, { shouldStart: false });
  };
}
