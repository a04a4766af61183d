import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import { Heights } from '../model/heights';

const OVERSCAN_PX = 400;
// Before layout, and where there is none, assume a view of this height.
const DEFAULT_VIEW_PX = 480;
const NEAR_END_PX = 600;
const AT_END_PX = 24;
// Browsers draw nothing beyond some 33 million pixels, and beyond 2^24 they place lines unevenly;
// a longer list scrolls in larger steps.
const MAX_PX = 16_000_000;
// A scroll this long after the reader's last move is not the reader's.
const TOUCH_MS = 1_000;

// Rows around one that is brought into view are measured only then, and move it.
const REVEALS = 5;

export interface WindowedProps {
  count: number;
  /** Stable identity of a row; measured heights are kept under it. */
  keyAt(index: number): number | string;
  render(index: number): ComponentChildren;
  /** Height of a row that was not measured yet, in pixels. */
  estimate: number;
  label: string;
  role: 'log' | 'rowgroup' | 'region';
  /** Keep the end in view while rows arrive. */
  follow?: boolean;
  onFollow?: (follow: boolean) => void;
  /** Key of the row that is brought into view at first. */
  reveal?: number | string;
  /** Called when the end comes near. */
  onNearEnd?: () => void;
}

/** A scrolled list that keeps only the rows in view in the document. Rows may differ in height. */
export function Windowed(props: WindowedProps): JSX.Element {
  const view = useRef<HTMLDivElement>(null);
  const known = useRef<Heights | null>(null);
  const heights = (known.current ??= new Heights(props.estimate));
  const touched = useRef(-TOUCH_MS);
  const revealing = useRef(REVEALS);
  const [scrollTop, setScrollTop] = useState(0);
  const [viewHeight, setViewHeight] = useState(DEFAULT_VIEW_PX);
  const [, setMeasured] = useState(0);
  const latest = useRef(props);
  latest.current = props;

  heights.sync(props.count, props.keyAt);
  const total = heights.top(props.count);
  const drawn = Math.min(total, MAX_PX);
  const scale = drawn > viewHeight ? (total - viewHeight) / (drawn - viewHeight) : 1;
  const offset = scrollTop * scale;
  const from = heights.rowAt(Math.max(0, offset - OVERSCAN_PX));
  let to = from;
  let bottom = heights.top(from);
  while (to < props.count && bottom < offset + viewHeight + OVERSCAN_PX) {
    to++;
    bottom = heights.top(to);
  }
  // Where the rows stand in the document: at their place as seen from the top of the view.
  const above = Math.max(0, heights.top(from) - offset + scrollTop);
  const below = Math.max(0, drawn - above - (bottom - heights.top(from)));

  const measure = (): void => {
    let changed = false;
    for (const row of view.current?.querySelectorAll<HTMLElement>(':scope > div > [data-row]') ??
      []) {
      const height = row.offsetHeight;
      if (height > 0) {
        changed = heights.set(Number(row.dataset['row']), height) || changed;
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
    if (element && props.reveal !== undefined && revealing.current > 0) {
      revealing.current -= 1;
      let index = 0;
      while (index < props.count && props.keyAt(index) !== props.reveal) {
        index++;
      }
      element.scrollTop = Math.max(0, heights.top(index) - viewHeight / 3) / scale;
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

  const nearEnd = total - offset - viewHeight < NEAR_END_PX;
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
    const left = element.scrollHeight - element.scrollTop - element.clientHeight;
    if (left <= AT_END_PX) {
      props.onFollow?.(true);
    } else if (movedUp && performance.now() - touched.current < TOUCH_MS) {
      // Rows that turn out lower than estimated move the view up as well; that is not the reader.
      props.onFollow?.(false);
    }
  };
  const touch = (): void => {
    revealing.current = 0;
    touched.current = performance.now();
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
      onWheel={touch}
      onKeyDown={touch}
      onPointerDown={touch}
      onPointerMove={event => {
        if (event.buttons !== 0) {
          touch();
        }
      }}
      onTouchMove={touch}
      tabIndex={0}
      role={props.role}
      aria-label={props.label}
    >
      <div
        role="presentation"
        style={{
          paddingTop: `${above}px`,
          paddingBottom: `${below}px`
        }}
      >
        {rows}
      </div>
    </div>
  );
}
