import type { JSX } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

import type { Task, TaskStatus } from '../model/types';
import type { Group } from '../stores/arrange';
import { type BoardStore, COLUMNS } from '../stores/board';
import { Arrows } from './arrows';
import { Card } from './card';
import { Button } from './common';
import { useTrans } from './context';
import { taskStatusLabel } from './labels';

/** Cards of one column that are drawn at once; more come as the reader goes on. */
const STEP = 60;
const DRAGGED = 'application/x-rootbound-task';

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

interface ColumnsProps {
  store: BoardStore;
  live: boolean;
  arrows: boolean;
  openAttempt?: (attemptId: string) => void;
  editTask?: (task: Task) => void;
}

export function Columns(props: ColumnsProps): JSX.Element {
  const { store, live, openAttempt } = props;
  const host = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<string | null>(null);
  const [expanded, setExpanded] = useState<string | null>(null);
  const [rejecting, setRejecting] = useState<string | null>(null);
  const columns = store.columns.value;
  const first = COLUMNS.map(status => columns[status][0]).find(task => task !== undefined);
  const current = active !== null && store.tasks.value.has(active) ? active : first?.id;
  const toggle = (id: string): void => setExpanded(expanded === id ? null : id);
  // The card that a key leads to may have to be drawn first.
  const wanted = useRef<string | null>(null);
  useLayoutEffect(() => {
    if (wanted.current !== null) {
      host.current?.querySelector<HTMLElement>(`[data-task="${wanted.current}"]`)?.focus();
      wanted.current = null;
    }
  });

  const put = (task: Task, to: TaskStatus): void => {
    const move = live ? store.moveTo(task, to) : null;
    if (move === 'reject') {
      // The next attempt learns from the reason, so it is asked for.
      setRejecting(task.id);
    } else if (move !== null) {
      void store[move](task);
    }
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    const id = target.dataset['task'];
    const task = id === undefined ? undefined : store.tasks.value.get(id);
    if (!task || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const step = event.key === 'ArrowLeft' ? -1 : event.key === 'ArrowRight' ? 1 : 0;
    const beside = COLUMNS[COLUMNS.indexOf(task.status) + step];
    if (event.shiftKey && step !== 0) {
      if (beside !== undefined) {
        put(task, task.status === 'REVIEW' && step === -1 ? 'TODO' : beside);
      }
    } else if (event.key === 'Enter' && task.latest_attempt && openAttempt) {
      openAttempt(task.latest_attempt.id);
    } else if (event.key === 'Enter' || event.key === ' ') {
      toggle(task.id);
    } else if (event.key === 'e' && props.editTask) {
      props.editTask(task);
    } else {
      const next = neighbour(columns, task.id, event.key);
      if (!next) {
        return;
      }
      setActive(next.id);
      const card = host.current?.querySelector<HTMLElement>(`[data-task="${next.id}"]`);
      if (card) {
        card.focus();
      } else {
        wanted.current = next.id;
      }
    }
    event.preventDefault();
    // JupyterLab's own shortcuts listen further up.
    event.stopPropagation();
  };

  return (
    <div class="jp-rootbound-Columns" ref={host} onKeyDown={onKeyDown}>
      {COLUMNS.map(status => (
        <Column
          key={status}
          status={status}
          groups={store.groups.value[status]}
          count={columns[status].length}
          reach={1 + columns[status].findIndex(task => task.id === current)}
          onDrop={id => {
            const task = store.tasks.value.get(id);
            if (task) {
              put(task, status);
            }
          }}
          card={task => (
            <Card
              key={task.id}
              task={task}
              store={store}
              live={live}
              active={task.id === current}
              expanded={task.id === expanded}
              rejecting={task.id === rejecting}
              onRejecting={on => setRejecting(on ? task.id : null)}
              onActivate={() => {
                setActive(task.id);
                store.select(task);
              }}
              onToggle={() => toggle(task.id)}
              onDragStart={transfer => transfer.setData(DRAGGED, task.id)}
              onOpenAttempt={openAttempt}
              onEdit={props.editTask}
            />
          )}
        />
      ))}
      {props.arrows && <Arrows host={host} store={store} chosen={expanded ?? active} />}
    </div>
  );
}

interface ColumnProps {
  status: TaskStatus;
  groups: readonly Group[];
  count: number;
  /** So many cards are drawn at least: up to the one that has the keyboard. */
  reach: number;
  card(task: Task): JSX.Element;
  onDrop(taskId: string): void;
}

function Column({ status, groups, count, reach, card, onDrop }: ColumnProps): JSX.Element {
  const trans = useTrans();
  const [asked, setShown] = useState(STEP);
  const shown = Math.max(asked, reach);
  const [over, setOver] = useState(false);
  const name = taskStatusLabel(status, trans);
  let left = shown;
  return (
    <section
      class={`jp-rootbound-Column${over ? ' jp-mod-over' : ''}`}
      data-status={status}
      onScroll={event => {
        const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
        if (count > shown && scrollTop + 2 * clientHeight > scrollHeight) {
          setShown(shown + STEP);
        }
      }}
      onDragOver={event => {
        if (event.dataTransfer?.types.includes(DRAGGED)) {
          event.preventDefault();
          setOver(true);
        }
      }}
      onDragLeave={() => setOver(false)}
      onDrop={event => {
        setOver(false);
        const id = event.dataTransfer?.getData(DRAGGED);
        if (id) {
          event.preventDefault();
          onDrop(id);
        }
      }}
    >
      <h3 class="jp-rootbound-Column-head">
        {name}
        <span class="jp-rootbound-Count">{count}</span>
      </h3>
      {groups.map(group => {
        const tasks = group.tasks.slice(0, Math.max(0, left));
        left -= group.tasks.length;
        if (tasks.length === 0) {
          return null;
        }
        const heading =
          typeof group.heading === 'number'
            ? trans.__('Step %1', group.heading + 1)
            : group.heading;
        return (
          <div key={String(group.heading)}>
            {heading !== null && <h4 class="jp-rootbound-Group">{heading}</h4>}
            <ul
              class="jp-rootbound-Cards"
              role="list"
              aria-label={heading === null ? name : `${name}: ${heading}`}
            >
              {tasks.map(card)}
            </ul>
          </div>
        );
      })}
      {count === 0 && <ul class="jp-rootbound-Cards" role="list" aria-label={name} />}
      {count > shown && (
        <Button onClick={() => setShown(shown + STEP)}>
          {trans.__('Show more (%1 left)', count - shown)}
        </Button>
      )}
    </section>
  );
}
