import type { JSX } from 'preact';

import { compact } from '../model/format';
import type { AuditFactsStore, TreeRow } from '../stores/audit_facts';
import { useTrans } from './context';

interface TreeProps {
  facts: AuditFactsStore;
  /** The prefix that the table is narrowed to. */
  chosen: string;
  /** Narrow the table to what lies at a path; null where that cannot be done. */
  onChoose: ((path: string) => void) | null;
}

/** The folders that were touched, with counts; choosing one narrows the table to it. */
export function FolderTree({ facts, chosen, onChoose }: TreeProps): JSX.Element {
  const trans = useTrans();
  const rows = facts.rows.value;
  const move = (event: KeyboardEvent, index: number): void => {
    const row = rows[index];
    const list = (event.currentTarget as HTMLElement).parentElement;
    const focus = (to: number): void => {
      event.preventDefault();
      list?.querySelectorAll<HTMLElement>('[role="treeitem"]')[to]?.focus();
    };
    if (event.key === 'ArrowDown') {
      focus(Math.min(rows.length - 1, index + 1));
    } else if (event.key === 'ArrowUp') {
      focus(Math.max(0, index - 1));
    } else if (event.key === 'Home') {
      focus(0);
    } else if (event.key === 'End') {
      focus(rows.length - 1);
    } else if (row && event.key === 'ArrowRight' && row.node.is_folder) {
      event.preventDefault();
      if (row.expanded) {
        focus(index + 1);
      } else {
        void facts.toggle(row.node.path);
      }
    } else if (row && event.key === 'ArrowLeft') {
      event.preventDefault();
      if (row.expanded) {
        void facts.toggle(row.node.path);
      } else {
        focus(parentOf(rows, index));
      }
    } else if (row && (event.key === 'Enter' || event.key === ' ')) {
      event.preventDefault();
      onChoose?.(prefixOf(row));
    }
  };
  if (rows.length === 0) {
    return <p class="jp-rootbound-Empty">{trans.__('No folder was touched.')}</p>;
  }
  return (
    <div class="jp-rootbound-Tree" role="tree" aria-label={trans.__('Touched folders')}>
      {rows.map((row, index) => (
        <div
          key={row.node.path}
          role="treeitem"
          class="jp-rootbound-Tree-row"
          tabIndex={index === 0 ? 0 : -1}
          aria-level={row.depth + 1}
          aria-expanded={row.node.is_folder ? row.expanded : undefined}
          aria-selected={chosen === prefixOf(row)}
          style={{ paddingInlineStart: `${8 + row.depth * 14}px` }}
          title={row.node.path}
          onKeyDown={event => move(event, index)}
          onClick={() => onChoose?.(prefixOf(row))}
        >
          <span
            class={row.node.is_folder ? 'jp-rootbound-Fold-arrow' : 'jp-rootbound-Tree-leaf'}
            data-open={row.expanded}
            aria-hidden="true"
            onClick={event => {
              event.stopPropagation();
              void facts.toggle(row.node.path);
            }}
          />
          <span class="jp-rootbound-Tree-name">
            {row.node.name}
            {row.node.is_folder ? '/' : ''}
          </span>
          {row.node.denied > 0 && (
            <span class="jp-rootbound-Tag jp-mod-denied">
              {trans._n('%1 denied', '%1 denied', row.node.denied)}
            </span>
          )}
          <span class="jp-rootbound-Muted" title={counts(row, trans.__('read, write, delete'))}>
            {compact(row.node.total)}
          </span>
        </div>
      ))}
    </div>
  );
}

function prefixOf({ node }: TreeRow): string {
  return node.is_folder ? `${node.path}/` : node.path;
}

function parentOf(rows: readonly TreeRow[], index: number): number {
  const depth = rows[index]?.depth ?? 0;
  for (let above = index - 1; above >= 0; above--) {
    if ((rows[above]?.depth ?? 0) < depth) {
      return above;
    }
  }
  return index;
}

function counts({ node }: TreeRow, names: string): string {
  return `${names}: ${node.read}, ${node.write}, ${node.delete}`;
}
