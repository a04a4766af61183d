import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

const OVERSCAN_PX = 400;
// Before layout, and where there is none, assume a view of this height.
const DEFAULT_VIEW_PX = 480;
const NEAR_END_PX = 600;
const AT_END_PX = 24;

export interface WindowedProps {
  count: number;
  /** Stable identity of a row; measured heights are kept under it. */
  keyAt(index: number): number | string;
  render(index: number): ComponentChildren;
  /** Height of a row that was not measured yet, in pixels. */
  estimate: number;
  label: string;
  role: 'log' | 'rowgroup';
  /** Keep the end in view while rows arrive. */
  follow?: boolean;
  onFollow?: (follow: boolean) => void;
  /** Called when the end comes near. */
  onNearEnd?: () => void;
}

/** Tops of all rows, and below them the full height. */
function tops(props: WindowedProps, heights: ReadonlyMap<number | string, number>): Float64Array {
  const result = new Float64Array(props.count + 1);
  for (let index = 0; index < props.count; index++) {
    const height = heights.get(props.keyAt(index)) ?? props.estimate;
    result[index + 1] = (result[index] ?? 0) + height;
  }
  return result;
}

/** The last row whose top is at or above `offset`. */
function rowAt(offsets: Float64Array, offset: number): number {
  let low = 0;
  let high = Math.max(0, offsets.length - 2);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((offsets[middle] ?? 0) <= offset) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/** A scrolled list that keeps only the rows in view in the document. Rows may differ in height. */
export function Windowed(props: WindowedProps): JSX.Element {
  const view = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<number | string, number>());
  const [scrollTop, setScrollTop] = useState(0);
  const [viewHeight, setViewHeight] = useState(DEFAULT_VIEW_PX);
  const [, setMeasured] = useState(0);
  const latest = useRef(props);
  latest.current = props;

  const offsets = tops(props, heights.current);
  const total = offsets[props.count] ?? 0;
  const from = rowAt(offsets, Math.max(0, scrollTop - OVERSCAN_PX));
  let to = from;
  while (to < props.count && (offsets[to] ?? 0) < scrollTop + viewHeight + OVERSCAN_PX) {
    to++;
  }

  const measure = (): void => {
    let changed = false;
    for (const row of view.current?.querySelectorAll<HTMLElement>(':scope > div > [data-row]') ??
      []) {
      const key = latest.current.keyAt(Number(row.dataset['row']));
      const height = row.offsetHeight;
      if (height > 0 && heights.current.get(key) !== height) {
        heights.current.set(key, height);
        changed = true;
      }
    }
    if (changed) {
      setMeasured(count => count + 1);
    }
  };

  useLayoutEffect(() => {
    measure();
    const element = view.current;
    if (element && props.follow) {
      element.scrollTop = element.scrollHeight;
    }
  });

  useEffect(() => {
    const element = view.current;
    if (!element || typeof ResizeObserver === 'undefined') {
      return undefined;
    }
    // Width changes rewrap rows, folding changes their height: both resize view or content.
    const observer = new ResizeObserver(() => {
      setViewHeight(element.clientHeight || DEFAULT_VIEW_PX);
      measure();
    });
    observer.observe(element);
    if (element.firstElementChild) {
      observer.observe(element.firstElementChild);
    }
    return () => observer.disconnect();
  }, []);

  const nearEnd = total - scrollTop - viewHeight < NEAR_END_PX;
  useEffect(() => {
    if (nearEnd) {
      latest.current.onNearEnd?.();
    }
  }, [nearEnd, props.count]);

  const onScroll = (): void => {
    const element = view.current;
    if (!element) {
      return;
    }
    const movedUp = element.scrollTop < scrollTop;
    setScrollTop(element.scrollTop);
    const below = element.scrollHeight - element.scrollTop - element.clientHeight;
    if (below <= AT_END_PX) {
      props.onFollow?.(true);
    } else if (movedUp) {
      // Only the reader scrolls up; rows that grow push the end down.
      props.onFollow?.(false);
    }
  };

  const rows: JSX.Element[] = [];
  for (let index = from; index < to; index++) {
    rows.push(
      <div key={props.keyAt(index)} data-row={index}>
        {props.render(index)}
      </div>
    );
  }
  return (
    <div
      class="jp-rootbound-Windowed"
      ref={view}
      onScroll={onScroll}
      tabIndex={0}
      role={props.role}
      aria-label={props.label}
    >
      <div
        role="presentation"
        style={{
          paddingTop: `${offsets[from] ?? 0}px`,
          paddingBottom: `${total - (offsets[to] ?? total)}px`
        }}
      >
        {rows}
      </div>
    </div>
  );
}
