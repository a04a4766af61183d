import type { JSX } from 'preact';
import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

import type { Task, TaskStatus } from '../model/types';
import { type BoardStore, COLUMNS } from '../stores/board';
import { Arrows } from './arrows';
import { Card } from './card';
import { Column, DRAGGED } from './column';

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
  const [expanded, setExpanded] = useState<string | null>(null);
  const [rejecting, setRejecting] = useState<string | null>(null);
  const columns = store.columns.value;
  const first = COLUMNS.map(status => columns[status][0]).find(task => task !== undefined);
  const active = store.selected.value;
  const current = active !== null && store.tasks.value.has(active) ? active : first?.id;
  // Away from the document a card would lose the keyboard, a drag its end, a form what is typed.
  const [dragged, setDragged] = useState<string | null>(null);
  const kept = useMemo(
    () => new Set([current, dragged, rejecting].filter(id => typeof id === 'string')),
    [current, dragged, rejecting]
  );
  const toggle = (id: string): void => setExpanded(expanded === id ? null : id);
  // The card that a key leads to may have to be drawn first.
  const wanted = useRef<string | null>(null);
  useLayoutEffect(() => {
    if (wanted.current !== null) {
      host.current?.querySelector<HTMLElement>(`[data-task="${wanted.current}"]`)?.focus();
      wanted.current = null;
    }
  });

  // A card that a notebook chose comes into view, and leaves the keyboard where it is.
  useLayoutEffect(() => {
    const card = host.current?.querySelector<HTMLElement>(`[data-task="${active}"]`);
    if (card && !card.contains(document.activeElement)) {
      card.scrollIntoView({ block: 'nearest' });
    }
  }, [active]);

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
      store.select(next);
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
          board={host}
          kept={kept}
          groups={store.groups.value[status]}
          count={columns[status].length}
          onDrop={id => {
            const task = store.tasks.value.get(id);
            if (task) {
              put(task, status);
            }
          }}
          card={(task, place) => (
            <Card
              key={task.id}
              place={place}
              task={task}
              store={store}
              live={live}
              active={task.id === current}
              expanded={task.id === expanded}
              rejecting={task.id === rejecting}
              onRejecting={on => setRejecting(on ? task.id : null)}
              selected={task.id === active}
              onActivate={() => store.select(task)}
              onToggle={() => toggle(task.id)}
              onDragStart={transfer => {
                transfer.setData(DRAGGED, task.id);
                setDragged(task.id);
              }}
              onDragEnd={() => setDragged(null)}
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
