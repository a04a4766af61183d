import type { RefObject } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

import { Heights } from '../model/heights';

const OVERSCAN_PX = 400;
// Before layout, and where there is none, assume a view of this height.
const DEFAULT_VIEW_PX = 480;
const ESTIMATE_PX = 84;
// A view that moves by less than this shows the same rows.
const STEP_PX = 100;

/** A row that is in the document, and the room of the rows before it that are not. */
export interface DrawnRow {
  index: number;
  gap: number;
}

interface DrawnRows {
  /** Of the element that holds the rows and nothing else. */
  content: RefObject<HTMLDivElement | null>;
  rows: readonly DrawnRow[];
  /** Room of the rows after the last drawn one, in pixels. */
  below: number;
}

interface Anchor {
  /** Null for the end of the list. */
  key: string | null;
  top: number;
}

/**
 * Which rows of a list are drawn: those in view and those that must stay.
 *
 * Unlike `Windowed` it has no scroll bar of its own: the list, its column or the whole board may
 * scroll. Heights are kept by key, and what is in view stays where it is while rows come, go and
 * are measured above it. Each drawn row's element says its index as `data-row`.
 *
 * @param view The element that cuts off what is out of sight.
 * @param keys Identities of all rows; another array for another list.
 * @param kept Rows that are drawn wherever they are.
 */
export function useDrawnRows(
  view: RefObject<HTMLElement | null>,
  keys: readonly string[],
  kept: ReadonlySet<string>
): DrawnRows {
  const content = useRef<HTMLDivElement>(null);
  const measured = useRef(new Map<string, number>()).current;
  const anchor = useRef<Anchor | null>(null);
  const [span, setSpan] = useState({ from: 0, to: DEFAULT_VIEW_PX });
  const [, setMeasured] = useState(0);
  const heights = useMemo(() => heightsOf(keys, measured), [keys, measured]);
  const indexOf = useMemo(() => new Map(keys.map((key, index) => [key, index])), [keys]);
  const now = { heights, keys, kept, indexOf };
  const latest = useRef(now);
  latest.current = now;

  const look = (): void => {
    const { from, to } = spanOf(view.current, content.current);
    anchor.current = anchorAt(latest.current, from, to);
    const low = Math.floor(Math.max(0, from) / STEP_PX) * STEP_PX;
    const high = Math.ceil(Math.max(0, to) / STEP_PX) * STEP_PX;
    setSpan(old => (old.from === low && old.to === high ? old : { from: low, to: high }));
  };

  /** Take in the heights of drawn rows; false when all were known. */
  const measure = (): boolean => {
    let changed = false;
    for (const row of content.current?.querySelectorAll<HTMLElement>('[data-row]') ?? []) {
      const index = Number(row.dataset['row']);
      const key = latest.current.keys[index];
      const height = row.offsetHeight;
      if (key !== undefined && height > 0) {
        const whole = height + (parseFloat(getComputedStyle(row).marginBottom) || 0);
        measured.set(key, whole);
        changed = latest.current.heights.set(index, whole) || changed;
      }
    }
    if (changed) {
      setMeasured(count => count + 1);
    }
    return changed;
  };

  useLayoutEffect(() => {
    if (!measure()) {
      stay(content.current, view.current, anchor.current, latest.current);
      look();
    }
  });

  useEffect(() => {
    const board = view.current;
    board?.addEventListener('scroll', look, { capture: true, passive: true });
    const sizes =
      typeof ResizeObserver === 'undefined'
        ? null
        : new ResizeObserver(() => {
            // What changed is drawn first; the anchor still stands where it was.
            if (!measure()) {
              look();
            }
          });
    for (const element of [board, content.current]) {
      if (element) {
        sizes?.observe(element);
      }
    }
    return () => {
      board?.removeEventListener('scroll', look, { capture: true });
      sizes?.disconnect();
    };
  }, []);

  const rows: DrawnRow[] = [];
  let bottom = 0;
  for (const index of indexes(now, span)) {
    rows.push({ index, gap: Math.max(0, heights.top(index) - bottom) });
    bottom = heights.top(index + 1);
  }
  return { content, rows, below: Math.max(0, heights.top(keys.length) - bottom) };
}

interface List {
  heights: Heights;
  keys: readonly string[];
  kept: ReadonlySet<string>;
  indexOf: ReadonlyMap<string, number>;
}

function heightsOf(keys: readonly string[], measured: ReadonlyMap<string, number>): Heights {
  const known = keys.map(key => measured.get(key));
  const found = known.filter(height => height !== undefined);
  // What the rows seen so far are like tells more of the others than a guess does.
  const mean = found.reduce((sum, height) => sum + height, 0) / found.length;
  const heights = new Heights(found.length > 0 ? Math.round(mean) : ESTIMATE_PX);
  heights.sync(keys.length, index => keys[index] ?? index);
  known.forEach((height, index) => {
    if (height !== undefined) {
      heights.set(index, height);
    }
  });
  return heights;
}

/** The part of the list that is in view, in pixels from the list's top. */
function spanOf(
  view: HTMLElement | null,
  content: HTMLElement | null
): { from: number; to: number } {
  const board = view?.getBoundingClientRect();
  const list = content?.getBoundingClientRect();
  return board && list && board.height > 0
    ? { from: board.top - list.top, to: board.bottom - list.top }
    : { from: 0, to: DEFAULT_VIEW_PX };
}

function indexes({ heights, keys, kept, indexOf }: List, span: { from: number; to: number }): number[] {
  const found = new Set<number>();
  let index = heights.rowAt(Math.max(0, span.from - OVERSCAN_PX));
  while (index < keys.length && heights.top(index) < span.to + OVERSCAN_PX) {
    found.add(index);
    index += 1;
  }
  for (const key of kept) {
    const at = indexOf.get(key);
    if (at !== undefined) {
      found.add(at);
    }
  }
  return [...found].sort((one, other) => one - other);
}

/** What must not move: a kept row in view, else the first one in view; null at the list's top. */
function anchorAt({ heights, keys, kept, indexOf }: List, from: number, to: number): Anchor | null {
  const full = heights.top(keys.length);
  if (from <= 0 || keys.length === 0) {
    return null;
  }
  if (from >= full) {
    return { key: null, top: full };
  }
  for (const key of kept) {
    const at = indexOf.get(key);
    if (at !== undefined && heights.top(at + 1) > from && heights.top(at) < to) {
      return { key, top: heights.top(at) };
    }
  }
  const first = heights.rowAt(from);
  return { key: keys[first] ?? null, top: heights.top(first) };
}

/** Scroll by as much as the anchor was moved. */
function stay(
  content: HTMLElement | null,
  view: HTMLElement | null,
  anchor: Anchor | null,
  { heights, keys, indexOf }: List
): void {
  const at = anchor?.key === null ? keys.length : indexOf.get(anchor?.key ?? '');
  if (!anchor || at === undefined) {
    return;
  }
  const moved = heights.top(at) - anchor.top;
  const column = content?.parentElement;
  if (Math.abs(moved) >= 1 && column && view) {
    const own = getComputedStyle(column).overflowY !== 'visible';
    (own ? column : view).scrollTop += moved;
  }
}
