import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import type { Notice } from '../model/machine';
import { duration } from '../model/format';
import { LIVE_RUNS, type Schedule, type ScheduleRun, cronSentence, instant } from '../model/schedule';
import type { Trans } from '../model/trans';
import type { Project } from '../model/types';
import type { Schedules } from '../source/schedules';
import { type Act, Loaded } from '../stores/loaded';
import { Banner, Button, ProblemBanner } from './common';
import { useTrans } from './context';
import { ScheduleForm } from './scheduleform';

const HISTORY_SECONDS = 3;

export interface ScheduleHooks {
  /** Let the user choose a notebook; its path on this machine, or null. */
  pickNotebook?: () => Promise<string | null>;
  /** Show the executed notebook of a run. */
  openReport?: (run: ScheduleRun) => void;
  openBoard?: () => void;
  startStack?: () => Promise<void>;
}

export interface ScheduleBoard {
  list: Schedule[];
  projects: Project[];
  notices: Notice[];
}

interface SchedulesProps extends ScheduleHooks {
  store: Loaded<ScheduleBoard>;
  schedules: Schedules;
}

/** What starts by itself and when, what came of it, and what failed while nobody watched. */
export function SchedulesView(props: SchedulesProps): JSX.Element {
  const { store, schedules, pickNotebook, startStack } = props;
  const trans = useTrans();
  /** The schedule in the form; null for a new one, undefined while there is no form. */
  const [edited, setEdited] = useState<Schedule | null | undefined>(undefined);
  const found = store.value.value;
  const problem = store.problem.value;
  const act: Act = what => store.act(what);
  const names = new Map(found?.projects.map(project => [project.id, project.name]));
  return (
    <section class="jp-rootbound jp-rootbound-Schedules" aria-label={trans.__('Schedules')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Schedules')}</strong>
        <span class="jp-rootbound-Spacer" />
        <Button
          kind="primary"
          disabled={!found || found.projects.length === 0}
          onClick={() => setEdited(null)}
        >
          {trans.__('New schedule')}
        </Button>
        <Button label={trans.__('Read again')} onClick={() => void store.load()}>
          ↻
        </Button>
      </header>
      {problem && (
        <ProblemBanner
          problem={problem}
          onRetry={() => void store.load()}
          onStart={startStack && (() => void act(startStack))}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {found?.notices.map(notice => (
        <Banner
          key={notice.id}
          tone="warn"
          action={{
            label: trans.__('I have read it'),
            run: () => void act(() => schedules.readNotice(notice.id))
          }}
        >
          <span class="jp-rootbound-Muted">{instant(notice.created_at)}</span> {notice.text}
        </Banner>
      ))}
      {edited !== undefined && found && (
        <ScheduleForm
          key={edited?.id ?? 'new'}
          schedules={schedules}
          schedule={edited}
          projects={found.projects}
          pickNotebook={pickNotebook}
          onClose={() => setEdited(undefined)}
          onSaved={() => {
            setEdited(undefined);
            void store.load();
          }}
        />
      )}
      {!found && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {found && found.list.length === 0 && <Empty found={found} openBoard={props.openBoard} />}
      {found && found.list.length > 0 && (
        <ul class="jp-rootbound-Page" role="list" aria-label={trans.__('Schedules')}>
          {found.list.map(schedule => (
            <Item
              {...props}
              key={schedule.id}
              schedule={schedule}
              project={names.get(schedule.project_id) ?? ''}
              act={act}
              onEdit={() => setEdited(schedule)}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function Empty({
  found,
  openBoard
}: {
  found: ScheduleBoard;
  openBoard: (() => void) | undefined;
}): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Empty">
      <p>
        {trans.__(
          'Nothing is scheduled. A schedule plans a wish and has it done, or executes a notebook, at the times of a crontab.'
        )}
      </p>
      {found.projects.length === 0 && (
        <p>
          {trans.__('It needs a project first.')}{' '}
          {openBoard && <Button onClick={openBoard}>{trans.__('Open the task board')}</Button>}
        </p>
      )}
    </div>
  );
}

interface ItemProps extends SchedulesProps {
  schedule: Schedule;
  project: string;
  act: Act;
  onEdit(): void;
}

function Item(props: ItemProps): JSX.Element {
  const { schedule, project, schedules, act, onEdit } = props;
  const trans = useTrans();
  const [isOpen, setIsOpen] = useState(false);
  const [asking, setAsking] = useState(false);
  const { id, name, crontab, timezone, is_enabled, next_run_at, last_status } = schedule;
  return (
    <li class="jp-rootbound-Schedule" data-enabled={is_enabled}>
      <div class="jp-rootbound-Schedule-head">
        <strong>{name}</strong>
        <span class="jp-rootbound-Muted">{project}</span>
        {last_status && <RunChip status={last_status} />}
        {!is_enabled && <span class="jp-rootbound-Tag">{trans.__('paused')}</span>}
        <span class="jp-rootbound-Spacer" />
        <Button
          label={trans.__('Run %1 now', name)}
          onClick={() => {
            setIsOpen(true);
            void act(() => schedules.runNow(id));
          }}
        >
          {trans.__('Run now')}
        </Button>
        <Button
          label={is_enabled ? trans.__('Pause %1', name) : trans.__('Resume %1', name)}
          onClick={() => void act(() => (is_enabled ? schedules.pause(id) : schedules.resume(id)))}
        >
          {is_enabled ? trans.__('Pause') : trans.__('Resume')}
        </Button>
        <Button label={trans.__('Change %1', name)} onClick={onEdit}>
          {trans.__('Change…')}
        </Button>
        {!asking && (
          <Button label={trans.__('Delete %1', name)} onClick={() => setAsking(true)}>
            {trans.__('Delete…')}
          </Button>
        )}
        <Button
          label={trans.__('History of %1', name)}
          pressed={isOpen}
          onClick={() => setIsOpen(!isOpen)}
        >
          {trans.__('History')}
        </Button>
      </div>
      <p>
        {cronSentence(crontab)}{' '}
        <span class="jp-rootbound-Muted">
          <code>{crontab}</code> · {timezone} ·{' '}
          {next_run_at
            ? trans.__('next %1', instant(next_run_at, timezone))
            : trans.__('starts nothing until it is resumed')}
        </span>
      </p>
      <p class="jp-rootbound-Schedule-what">
        <span class="jp-rootbound-Muted">
          {schedule.kind === 'PLAN' ? trans.__('Plans') : trans.__('Executes')}
        </span>{' '}
        {schedule.kind === 'PLAN' ? schedule.prompt : <code>{schedule.notebook}</code>}
      </p>
      {asking && (
        <p role="group" aria-label={trans.__('Confirm')}>
          <span class="jp-rootbound-Muted">
            {trans.__('Its history goes with it; tasks that it made stay.')}
          </span>{' '}
          <Button
            kind="danger"
            onClick={() => {
              setAsking(false);
              void act(() => schedules.remove(id));
            }}
          >
            {trans.__('Yes, delete %1', name)}
          </Button>{' '}
          <Button onClick={() => setAsking(false)}>{trans.__('Back')}</Button>
        </p>
      )}
      {isOpen && <History {...props} />}
    </li>
  );
}

function RunChip({ status }: { status: ScheduleRun['status'] }): JSX.Element {
  const trans = useTrans();
  return (
    <span class="jp-rootbound-Chip" data-status={status}>
      {runStatusLabel(status, trans)}
    </span>
  );
}

function runStatusLabel(status: ScheduleRun['status'], trans: Trans): string {
  switch (status) {
    case 'WAITING':
      return trans.__('Waiting');
    case 'RUNNING':
      return trans.__('Running');
    case 'SUCCESS':
      return trans.__('Done');
    case 'FAILED':
      return trans.__('Failed');
    case 'SKIPPED':
      return trans.__('Left out');
    case 'CANCELLED':
      return trans.__('Cancelled');
  }
}

function triggerLabel(trigger: ScheduleRun['trigger'], trans: Trans): string {
  switch (trigger) {
    case 'CRON':
      return trans.__('on time');
    case 'MISSED':
      return trans.__('made up for');
    case 'MANUAL':
      return trans.__('by hand');
  }
}

function History({ schedule, schedules, store, openReport, openBoard }: ItemProps): JSX.Element {
  const trans = useTrans();
  const runs = useMemo(
    () => new Loaded(() => schedules.runs(schedule.id), HISTORY_SECONDS),
    [schedule.id]
  );
  useEffect(() => {
    void runs.load();
    return () => runs.dispose();
  }, [runs]);
  // What was just started or ended here is in the list at once.
  useEffect(() => void runs.load(), [store.value.value]);
  const found = runs.value.value;
  const problem = runs.problem.value;
  if (problem) {
    return <ProblemBanner problem={problem} onRetry={() => void runs.load()} />;
  }
  if (!found) {
    return <p class="jp-rootbound-Muted">{trans.__('Loading…')}</p>;
  }
  if (found.length === 0) {
    return <p class="jp-rootbound-Muted">{trans.__('It has not run yet.')}</p>;
  }
  return (
    <table class="jp-rootbound-Table">
      <caption class="jp-rootbound-hidden">{trans.__('History of %1', schedule.name)}</caption>
      <thead>
        <tr>
          <th scope="col">{trans.__('Started')}</th>
          <th scope="col">{trans.__('Outcome')}</th>
          <th scope="col">{trans.__('Took')}</th>
          <th scope="col">{trans.__('What came of it')}</th>
        </tr>
      </thead>
      <tbody>
        {found.map(run => (
          <tr key={run.id}>
            <td>
              {instant(run.started_at ?? run.created_at, schedule.timezone)}{' '}
              <span class="jp-rootbound-Muted">{triggerLabel(run.trigger, trans)}</span>
            </td>
            <td>
              <RunChip status={run.status} />
            </td>
            <td>{took(run)}</td>
            <td>
              {run.message}{' '}
              {run.report_url && openReport && (
                <Button
                  label={trans.__('Open the report of %1', instant(run.created_at))}
                  onClick={() => openReport(run)}
                >
                  {trans.__('Open the report')}
                </Button>
              )}
              {run.decomposition_id && openBoard && (
                <Button onClick={openBoard}>{trans.__('Open the task board')}</Button>
              )}
              {LIVE_RUNS.includes(run.status) && (
                <Button onClick={() => void runs.act(() => schedules.cancel(run))}>
                  {trans.__('Cancel the run')}
                </Button>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function took({ started_at, ended_at }: ScheduleRun): string {
  if (!started_at || !ended_at) {
    return '–';
  }
  return duration((Date.parse(ended_at) - Date.parse(started_at)) / 1000);
}
