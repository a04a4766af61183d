import type { JSX, RefObject } from 'preact';
import { useLayoutEffect, useState } from 'preact/hooks';

import type { BoardStore } from '../stores/board';

/** How far the arrow of two cards in one column bends out. */
const BOW_PX = 21;
const EDGE_PX = 3;

interface Line {
  from: string;
  to: string;
  path: string;
}

interface ArrowsProps {
  host: RefObject<HTMLElement | null>;
  store: BoardStore;
  /** Only the arrows of this task are strong. */
  chosen: string | null;
}

/** Draw an arrow from each task to those that wait for it, between the cards that are in view. */
export function Arrows({ host, store, chosen }: ArrowsProps): JSX.Element {
  const [lines, setLines] = useState<readonly Line[]>([]);
  // Where the board scrolls as one, the drawing stays with what is in view.
  const [top, setTop] = useState(0);
  const tasks = store.tasks.value;
  // What moves the cards: the search, the grouping, and their own order.
  const groups = store.groups.value;

  useLayoutEffect(() => {
    const board = host.current;
    if (!board) {
      return undefined;
    }
    const draw = (): void => {
      const origin = board.getBoundingClientRect();
      const cards = new Map<string, DOMRect>();
      for (const card of board.querySelectorAll<HTMLElement>('[data-task]')) {
        const box = card.getBoundingClientRect();
        if (box.bottom > origin.top && box.top < origin.bottom) {
          cards.set(card.dataset['task'] ?? '', box);
        }
      }
      const found: Line[] = [];
      for (const task of tasks.values()) {
        const to = cards.get(task.id);
        for (const id of to ? task.dependencies : []) {
          const from = cards.get(id);
          if (from && to) {
            found.push({ from: id, to: task.id, path: curve(from, to, origin) });
          }
        }
      }
      setTop(board.scrollTop);
      setLines(old => (JSON.stringify(old) === JSON.stringify(found) ? old : found));
    };
    let frame = 0;
    const drawSoon = (): void => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    };
    draw();
    board.addEventListener('scroll', drawSoon, true);
    const sizes = typeof ResizeObserver === 'undefined' ? null : new ResizeObserver(drawSoon);
    sizes?.observe(board);
    // Cards come into the document as the reader scrolls, after the scrolling itself.
    const cards = new MutationObserver(drawSoon);
    cards.observe(board, { childList: true, subtree: true });
    return () => {
      cancelAnimationFrame(frame);
      cards.disconnect();
      board.removeEventListener('scroll', drawSoon, true);
      sizes?.disconnect();
    };
  }, [host, tasks, groups]);

  return (
    <svg class="jp-rootbound-Arrows" aria-hidden="true" style={{ top: `${top}px` }}>
      <defs>
        <marker id="jp-rootbound-head" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">
          <path d="M0,0 L6,3 L0,6 z" />
        </marker>
      </defs>
      {lines.map(({ from, to, path }) => (
        <path
          key={`${from} ${to}`}
          d={path}
          data-strong={chosen === from || chosen === to}
          marker-end="url(#jp-rootbound-head)"
        />
      ))}
    </svg>
  );
}

/** From the side of one card to the nearer side of another; beside the cards of one column. */
function curve(from: DOMRect, to: DOMRect, origin: DOMRect): string {
  const same = Math.abs(from.left - to.left) < 1;
  const forward = from.left <= to.left;
  // Beside the last column there may be no room for the bow; then it begins within the cards.
  const inset = same ? Math.max(0, from.right + BOW_PX - (origin.right - EDGE_PX)) : 0;
  const x1 = (forward ? from.right - inset : from.left) - origin.left;
  const x2 = (same || !forward ? to.right - inset : to.left) - origin.left;
  const y1 = from.top + from.height / 2 - origin.top;
  const y2 = to.top + to.height / 2 - origin.top;
  const reach = same ? (4 / 3) * BOW_PX : Math.max(24, Math.abs(x2 - x1) / 2);
  const bend1 = forward ? reach : -reach;
  const bend2 = same || !forward ? reach : -reach;
  return `M${x1},${y1} C${x1 + bend1},${y1} ${x2 + bend2},${y2} ${x2},${y2}`;
}
