import type { JSX, RefObject } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import type { Task, TaskStatus } from '../model/types';
import type { Group } from '../stores/arrange';
import type { CardPlace } from './card';
import { useTrans } from './context';
import { type DrawnRow, useDrawnRows } from './drawnrows';
import { taskStatusLabel } from './labels';

export const DRAGGED = 'application/x-rootbound-task';

interface ColumnProps {
  status: TaskStatus;
  /** The element that cuts off what is out of sight. */
  board: RefObject<HTMLElement | null>;
  groups: readonly Group[];
  count: number;
  /** Cards that stay in the document wherever they are: the one with the keyboard. */
  kept: ReadonlySet<string>;
  card(task: Task, place: CardPlace): JSX.Element;
  onDrop(taskId: string): void;
}

type Row = { key: string; group: Group } & ({ task: Task; at: number } | { task: null });

/** A column's headings and cards in their order. */
function rowsOf(groups: readonly Group[]): Row[] {
  const rows: Row[] = [];
  for (const group of groups) {
    if (group.heading !== null) {
      rows.push({ key: `heading ${group.heading}`, group, task: null });
    }
    group.tasks.forEach((task, index) => rows.push({ key: task.id, group, task, at: index + 1 }));
  }
  return rows;
}

/** The tasks of one status, of which only the cards in view are in the document. */
export function Column({ status, board, groups, count, kept, card, onDrop }: ColumnProps): JSX.Element {
  const trans = useTrans();
  const [over, setOver] = useState(false);
  const name = taskStatusLabel(status, trans);
  const all = useMemo(() => rowsOf(groups), [groups]);
  const keys = useMemo(() => all.map(row => row.key), [all]);
  const { content, rows, below } = useDrawnRows(board, keys, kept);

  const section = (group: Group, drawn: readonly DrawnRow[]): JSX.Element => {
    const heading =
      typeof group.heading === 'number' ? trans.__('Step %1', group.heading + 1) : group.heading;
    const first = drawn[0];
    const hasHeading = first !== undefined && all[first.index]?.task === null;
    return (
      <div key={String(group.heading)}>
        {hasHeading && (
          <h4
            class="jp-rootbound-Group"
            data-row={first.index}
            style={{ marginTop: `${first.gap}px` }}
          >
            {heading}
          </h4>
        )}
        <ul
          class="jp-rootbound-Cards"
          role="list"
          aria-label={heading === null ? name : `${name}: ${heading}`}
        >
          {drawn.map(({ index, gap }) => {
            const row = all[index];
            return row?.task
              ? card(row.task, { row: index, gap, at: row.at, of: group.tasks.length })
              : null;
          })}
        </ul>
      </div>
    );
  };

  return (
    <section
      class={`jp-rootbound-Column${over ? ' jp-mod-over' : ''}`}
      data-status={status}
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
      <div class="jp-rootbound-Rows" ref={content} style={{ paddingBottom: `${below}px` }}>
        {groups.map(group => {
          const drawn = rows.filter(({ index }) => all[index]?.group === group);
          return drawn.length > 0 ? section(group, drawn) : null;
        })}
        {count === 0 && <ul class="jp-rootbound-Cards" role="list" aria-label={name} />}
      </div>
    </section>
  );
}
