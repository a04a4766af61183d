import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import type { Trans } from '../model/trans';
import type { Task, TaskStatus } from '../model/types';
import type { Source } from '../source/source';
import type { Work } from '../source/work';
import type { Grouping } from '../stores/arrange';
import { type BoardStore, type Conflict, TARGETS } from '../stores/board';
import { PlanStore } from '../stores/plan';
import { Columns } from './columns';
import { Banner, Button, LinkDot, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';
import { taskStatusLabel, sentence } from './labels';
import { Planning } from './planning';
import { ProjectForm } from './projectform';
import { TaskForm } from './taskform';

export interface BoardHooks {
  /** Show an attempt; without it, cards have no Open action. */
  openAttempt?: (attemptId: string) => void;
  /** Show the audit of a project. */
  openAudit?: (projectId: string) => void;
  /** Show the guide. */
  openGuide?: () => void;
  /** Makes projects, tasks and plans; without it the board only shows and decides. */
  work?: Work;
  /** Whether the board makes no other project. */
  isOfOneProject?: boolean;
  /** Choose a folder of this machine. */
  pickFolder?: () => Promise<string | null>;
}

interface BoardProps extends BoardHooks {
  store: BoardStore;
  source: Source;
}

/** What is open above the columns. */
type Form = 'none' | 'project' | 'change project' | 'task' | 'plan' | Task;

interface FormProps {
  form: Form;
  setForm(form: Form): void;
  arrows: boolean;
  setArrows(arrows: boolean): void;
}

export function Board(props: BoardProps): JSX.Element {
  const { store, source } = props;
  const trans = useTrans();
  const live = source.live.value;
  const problem = store.problem.value;
  const phase = store.phase.value;
  const [form, setForm] = useState<Form>('none');
  const [arrows, setArrows] = useState(false);
  const forms = { form, setForm, arrows, setArrows };
  const notice = store.notice.value;
  return (
    <section class="jp-rootbound jp-rootbound-Board" aria-label={trans.__('Task board')}>
      {phase === 'ready' && store.projects.value.length > 0 && (
        <>
          <Toolbar {...props} {...forms} live={live} />
          {store.tasks.value.size > 0 && <Filters {...props} {...forms} />}
        </>
      )}
      {phase === 'absent' ? (
        <Absent retry={() => void store.open()} />
      ) : (
        problem && (
          <ProblemBanner
            problem={problem}
            onStart={() => void store.startStack()}
            onGuide={props.openGuide}
            onRetry={phase === 'ready' ? undefined : () => void store.open()}
            onDismiss={phase === 'ready' ? () => store.dismissProblem() : undefined}
          />
        )
      )}
      {phase === 'ready' && store.link.value === 'lost' && !problem && (
        <Banner tone="warn">{trans.__('Connection lost; trying again.')}</Banner>
      )}
      {notice && (
        <Banner
          tone="calm"
          onDismiss={() => {
            store.notice.value = null;
          }}
        >
          {whyNot(notice.task, notice.to, store.blockers(notice.task).length > 0, trans)}
        </Banner>
      )}
      {store.conflict.value && <TooLate store={store} conflict={store.conflict.value} />}
      {phase === 'loading' && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {phase === 'ready' && <Forms {...props} {...forms} />}
      {phase === 'ready' && <Content {...props} {...forms} live={live} />}
    </section>
  );
}

/** A move that somebody else came before: what was not done, why, and the way to do it anyway. */
function TooLate({ store, conflict }: { store: BoardStore; conflict: Conflict }): JSX.Element {
  const trans = useTrans();
  const { task, move, problem } = conflict;
  const now = store.tasks.value.get(task.id);
  const target = taskStatusLabel(TARGETS[move], trans);
  const moved = now !== undefined && now.status !== task.status;
  return (
    <Banner
      tone="warn"
      action={
        store.canRepeat(conflict)
          ? {
              label: trans.__('Move it all the same'),
              run: () => void store.repeat(conflict)
            }
          : undefined
      }
      onDismiss={() => {
        store.conflict.value = null;
      }}
    >
      {trans.__('“%1” was not moved to “%2”.', task.title, target)}{' '}
      {moved
        ? trans.__(
            'Somebody else moved it meanwhile; it is in “%1” now.',
            taskStatusLabel(now.status, trans)
          )
        : sentence(problem, trans)}
    </Banner>
  );
}

/** Why a card does not go into a column. */
function whyNot(task: Task, to: TaskStatus, isBlocked: boolean, trans: Trans): string {
  if (to === 'IN_PROGRESS' && isBlocked) {
    return trans.__('“%1” waits for other tasks and cannot start yet.', task.title);
  }
  if (to === 'REVIEW') {
    return trans.__('“%1” comes to review by itself when its gates are green.', task.title);
  }
  if (to === 'DONE') {
    return trans.__('“%1” is done when an attempt was approved and merged.', task.title);
  }
  return trans.__(
    '“%1” cannot go from “%2” to “%3”.',
    task.title,
    taskStatusLabel(task.status, trans),
    taskStatusLabel(to, trans)
  );
}

/** The form that is open, if any. */
function Forms(props: BoardProps & FormProps): JSX.Element | null {
  const { store, work, pickFolder, form, setForm } = props;
  const projectId = store.projectId.value;
  const close = (): void => setForm('none');
  // The plan outlives its form: closing it loses nothing.
  const plan = useMemo(
    () => (work && projectId ? new PlanStore(work, projectId) : null),
    [work, projectId]
  );
  useEffect(() => () => plan?.dispose(), [plan]);
  if (!work || form === 'none') {
    return null;
  }
  if (form === 'project' || form === 'change project') {
    const changed = form === 'project' ? null : projectId;
    return (
      <ProjectForm
        key={changed ?? 'new'}
        work={work}
        project={store.projects.value.find(one => one.id === changed) ?? null}
        pickFolder={pickFolder}
        onSaved={project => {
          store.adopt(project);
          close();
        }}
        onClose={close}
      />
    );
  }
  if (!projectId || !plan) {
    return null;
  }
  if (form === 'plan') {
    return <Planning store={plan} openGuide={props.openGuide} onClose={close} />;
  }
  const task = form === 'task' ? null : form;
  return (
    <TaskForm
      key={task?.id ?? 'new'}
      work={work}
      projectId={projectId}
      task={task}
      others={[...store.tasks.value.values()]}
      onClose={close}
    />
  );
}

/** Search, grouping and arrows. */
function Filters({ store, arrows, setArrows }: BoardProps & FormProps): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Toolbar jp-rootbound-Filters" role="search">
      <input
        class="jp-rootbound-Input jp-mod-wide"
        type="search"
        aria-label={trans.__('Search the tasks')}
        placeholder={trans.__('Search the tasks')}
        value={store.search.value}
        onInput={event => {
          store.search.value = event.currentTarget.value;
        }}
      />
      <select
        class="jp-rootbound-Select"
        aria-label={trans.__('Group by')}
        value={store.grouping.value}
        onChange={event => {
          store.grouping.value = event.currentTarget.value as Grouping;
        }}
      >
        <option value="priority">{trans.__('By priority')}</option>
        <option value="role">{trans.__('By role')}</option>
        <option value="order">{trans.__('In order of dependencies')}</option>
      </select>
      <Button
        pressed={arrows}
        label={trans.__('Show which tasks wait for which')}
        onClick={() => setArrows(!arrows)}
      >
        {trans.__('Arrows')}
      </Button>
    </div>
  );
}

function Toolbar(props: BoardProps & FormProps & { live: boolean }): JSX.Element {
  const { store, live, openAudit, work, setForm } = props;
  const trans = useTrans();
  const projects = store.projects.value;
  const chosen = store.projectId.value;
  return (
    <header class="jp-rootbound-Toolbar">
      {projects.length > 1 ? (
        <select
          class="jp-rootbound-Select"
          aria-label={trans.__('Project')}
          value={chosen ?? ''}
          onChange={event => store.choose(event.currentTarget.value)}
        >
          {projects.map(project => (
            <option key={project.id} value={project.id}>
              {project.name}
            </option>
          ))}
        </select>
      ) : (
        <strong class="jp-rootbound-Toolbar-name">{projects[0]?.name}</strong>
      )}
      {work && live && chosen && !props.isOfOneProject && (
        <Button label={trans.__('Change the project')} onClick={() => setForm('change project')}>
          ✎
        </Button>
      )}
      {live ? <LinkDot link={store.link.value} /> : <SnapshotLabel />}
      <span class="jp-rootbound-Spacer" />
      {work && live && chosen && (
        <>
          <Button onClick={() => setForm('task')}>{trans.__('New task')}</Button>
          <Button onClick={() => setForm('plan')}>{trans.__('Plan with PM')}</Button>
          {!props.isOfOneProject && (
            <Button label={trans.__('New project')} onClick={() => setForm('project')}>
              +
            </Button>
          )}
        </>
      )}
      {openAudit && chosen && (
        <Button onClick={() => openAudit(chosen)}>{trans.__('Audit')}</Button>
      )}
      {live && (
        <Button label={trans.__('Reload')} onClick={() => void store.open()}>
          ↻
        </Button>
      )}
    </header>
  );
}

function Absent({ retry }: { retry(): void }): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Empty" role="status">
      <p>{trans.__('Rootbound’s server extension is not running here.')}</p>
      <p>
        {trans.__('Install it beside Jupyter and restart:')}{' '}
        <code>pip install "rootbound[server]"</code>
      </p>
      <Button onClick={retry}>{trans.__('Look again')}</Button>
    </div>
  );
}

function Content(props: BoardProps & FormProps & { live: boolean }): JSX.Element | null {
  const { store, work, form, setForm } = props;
  const trans = useTrans();
  if (store.projects.value.length === 0) {
    return (
      <div class="jp-rootbound-Empty">
        <p>
          <strong>{trans.__('No project yet')}</strong>
        </p>
        <p>{trans.__('A project is a git repository beneath a folder you grant.')}</p>
        {work && form !== 'project' && (
          <Button kind="primary" onClick={() => setForm('project')}>
            {trans.__('New project')}
          </Button>
        )}
        <p>{trans.__('In a notebook:')}</p>
        <pre class="jp-rootbound-Code jp-mod-snippet">
          {'import rootbound as rb\n\nclient = rb.connect()\nclient.roots.add("/path/to/work")\n'}
          {'project = client.projects.create("my-repo", "/path/to/work/my-repo")'}
        </pre>
        <Button onClick={() => void store.open()}>{trans.__('Look again')}</Button>
      </div>
    );
  }
  if (!store.loaded.value) {
    return <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>;
  }
  if (store.tasks.value.size === 0) {
    return (
      <div class="jp-rootbound-Empty">
        <p>
          <strong>{trans.__('No tasks yet')}</strong>
        </p>
        <p>{trans.__('Add one, or let the PM agent split a goal into tasks.')}</p>
        {work && form === 'none' && (
          <div class="jp-rootbound-Row jp-mod-center">
            <Button kind="primary" onClick={() => setForm('plan')}>
              {trans.__('Plan with PM')}
            </Button>
            <Button onClick={() => setForm('task')}>{trans.__('New task')}</Button>
          </div>
        )}
        <p>{trans.__('In a notebook:')}</p>
        <pre class="jp-rootbound-Code jp-mod-snippet">
          {'project.create_task("Fix the parser")\nproject.plan("Add a search page").approve()'}
        </pre>
      </div>
    );
  }
  return (
    <Columns
      store={store}
      live={props.live}
      arrows={props.arrows}
      openAttempt={props.openAttempt}
      editTask={work ? task => setForm(task) : undefined}
    />
  );
}
