import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';

import type { Task } from '../model/types';
import type { Source } from '../source/source';
import { type BoardStore, COLUMNS } from '../stores/board';
import { Card } from './card';
import { Banner, Button, LinkDot, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';
import { taskStatusLabel } from './labels';

export interface BoardHooks {
  /** Show an attempt; without it, cards have no Open action. */
  openAttempt?: (attemptId: string) => void;
  /** Show the audit of a project. */
  openAudit?: (projectId: string) => void;
}

interface BoardProps extends BoardHooks {
  store: BoardStore;
  source: Source;
}

/** The task that an arrow key leads to, or null to stay. */
function neighbour(
  columns: Readonly<Record<Task['status'], readonly Task[]>>,
  from: string,
  key: string
): Task | null {
  const column = COLUMNS.findIndex(status => columns[status].some(task => task.id === from));
  const status = COLUMNS[column];
  if (status === undefined) {
    return null;
  }
  const tasks = columns[status];
  const row = tasks.findIndex(task => task.id === from);
  switch (key) {
    case 'ArrowUp':
      return tasks[row - 1] ?? null;
    case 'ArrowDown':
      return tasks[row + 1] ?? null;
    case 'Home':
      return tasks[0] ?? null;
    case 'End':
      return tasks[tasks.length - 1] ?? null;
    case 'ArrowLeft':
    case 'ArrowRight': {
      const step = key === 'ArrowLeft' ? -1 : 1;
      for (let next = column + step; next >= 0 && next < COLUMNS.length; next += step) {
        const others = columns[COLUMNS[next] ?? 'TODO'];
        if (others.length > 0) {
          return others[Math.min(row, others.length - 1)] ?? null;
        }
      }
      return null;
    }
    default:
      return null;
  }
}

export function Board(props: BoardProps): JSX.Element {
  const { store, source } = props;
  const trans = useTrans();
  const live = source.live.value;
  const problem = store.problem.value;
  const phase = store.phase.value;
  return (
    <section class="jp-rootbound jp-rootbound-Board" aria-label={trans.__('Task board')}>
      {phase === 'ready' && store.projects.value.length > 0 && <Toolbar {...props} live={live} />}
      {phase === 'absent' ? (
        <Absent retry={() => void store.open()} />
      ) : (
        problem && (
          <ProblemBanner
            problem={problem}
            onStart={() => void store.startStack()}
            onRetry={phase === 'ready' ? undefined : () => void store.open()}
            onDismiss={phase === 'ready' ? () => store.dismissProblem() : undefined}
          />
        )
      )}
      {phase === 'ready' && store.link.value === 'lost' && !problem && (
        <Banner tone="warn">{trans.__('Connection lost; trying again.')}</Banner>
      )}
      {phase === 'loading' && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {phase === 'ready' && <Content {...props} live={live} />}
    </section>
  );
}

function Toolbar({ store, live, openAudit }: BoardProps & { live: boolean }): JSX.Element {
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
      {live ? <LinkDot link={store.link.value} /> : <SnapshotLabel />}
      <span class="jp-rootbound-Spacer" />
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

function Content(props: BoardProps & { live: boolean }): JSX.Element | null {
  const { store } = props;
  const trans = useTrans();
  if (store.projects.value.length === 0) {
    return (
      <div class="jp-rootbound-Empty">
        <p>
          <strong>{trans.__('No project yet')}</strong>
        </p>
        <p>{trans.__('A project is a git repository beneath a folder you grant. In a notebook:')}</p>
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
        <p>{trans.__('Add one, or let the planner split a goal into tasks. In a notebook:')}</p>
        <pre class="jp-rootbound-Code jp-mod-snippet">
          {'project.create_task("Fix the parser")\nproject.plan("Add a search page").approve()'}
        </pre>
      </div>
    );
  }
  return <Columns {...props} />;
}

function Columns(props: BoardProps & { live: boolean }): JSX.Element {
  const { store, live, openAttempt } = props;
  const trans = useTrans();
  const host = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<string | null>(null);
  const [expanded, setExpanded] = useState<string | null>(null);
  const columns = store.columns.value;
  const first = COLUMNS.map(status => columns[status][0]).find(task => task !== undefined);
  const current = active !== null && store.tasks.value.has(active) ? active : first?.id;
  const toggle = (id: string): void => setExpanded(expanded === id ? null : id);

  const onKeyDown = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    const id = target.dataset['task'];
    if (id === undefined || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const attempt = store.tasks.value.get(id)?.latest_attempt;
    if (event.key === 'Enter' && attempt && openAttempt) {
      openAttempt(attempt.id);
    } else if (event.key === 'Enter' || event.key === ' ') {
      toggle(id);
    } else {
      const next = neighbour(columns, id, event.key);
      if (!next) {
        return;
      }
      setActive(next.id);
      host.current?.querySelector<HTMLElement>(`[data-task="${next.id}"]`)?.focus();
    }
    event.preventDefault();
    // JupyterLab's own shortcuts listen further up.
    event.stopPropagation();
  };

  return (
    <div class="jp-rootbound-Columns" ref={host} onKeyDown={onKeyDown}>
      {COLUMNS.map(status => (
        <section key={status} class="jp-rootbound-Column" data-status={status}>
          <h3 class="jp-rootbound-Column-head">
            {taskStatusLabel(status, trans)}
            <span class="jp-rootbound-Count">{columns[status].length}</span>
          </h3>
          <ul
            class="jp-rootbound-Cards"
            role="list"
            aria-label={taskStatusLabel(status, trans)}
          >
            {columns[status].map(task => (
              <Card
                key={task.id}
                task={task}
                store={store}
                live={live}
                active={task.id === current}
                expanded={task.id === expanded}
                onActivate={() => {
                  setActive(task.id);
                  store.select(task);
                }}
                onToggle={() => toggle(task.id)}
                onOpenAttempt={openAttempt}
              />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}
