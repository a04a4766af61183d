import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

const OVERSCAN_ROWS = 12;
// Before layout, and where there is none, assume a view of this height.
const DEFAULT_VIEW_PX = 480;
const NEAR_END_ROWS = 200;
// Browsers place nothing beyond some 33 million pixels.
const MOST_PX = 16_000_000;

interface FixedListProps {
  count: number;
  rowPx: number;
  label: string;
  /** Changes when other rows are shown: the list goes back to its top. */
  resetOn: unknown;
  render(index: number): ComponentChildren;
  /** Called when the end comes near. */
  onNearEnd(): void;
}

/**
 * Rows of one height, of which only those in view are in the document.
 *
 * Unlike `Windowed` it keeps nothing per row, so that a million of them cost what a hundred do.
 * Lists taller than a browser can lay out are scrolled in proportion.
 */
export function FixedList(props: FixedListProps): JSX.Element {
  const { count, rowPx, render } = props;
  const view = useRef<HTMLDivElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const [viewPx, setViewPx] = useState(DEFAULT_VIEW_PX);
  const latest = useRef(props);
  latest.current = props;

  const full = count * rowPx;
  const shown = Math.min(full, MOST_PX);
  const hidden = Math.max(1, shown - viewPx);
  // 1 for lists that fit; beyond, where a pixel of the scroll bar is more than one of the list.
  const scale = full > shown ? (full - viewPx) / hidden : 1;
  const top = scrollTop * scale;
  const from = Math.max(0, Math.floor(top / rowPx) - OVERSCAN_ROWS);
  const to = Math.min(count, Math.ceil((top + viewPx) / rowPx) + OVERSCAN_ROWS);

  useLayoutEffect(() => {
    if (view.current) {
      view.current.scrollTop = 0;
    }
    setScrollTop(0);
  }, [props.resetOn]);

  useEffect(() => {
    const element = view.current;
    if (!element || typeof ResizeObserver === 'undefined') {
      return undefined;
    }
    const observer = new ResizeObserver(() => setViewPx(element.clientHeight || DEFAULT_VIEW_PX));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const nearEnd = to >= count - NEAR_END_ROWS;
  useEffect(() => {
    if (nearEnd) {
      latest.current.onNearEnd();
    }
  }, [nearEnd, count]);

  const rows: JSX.Element[] = [];
  for (let index = from; index < to; index++) {
    rows.push(<div key={index}>{render(index)}</div>);
  }
  return (
    <div
      class="jp-rootbound-Windowed"
      ref={view}
      onScroll={event => setScrollTop(event.currentTarget.scrollTop)}
      tabIndex={0}
      role="rowgroup"
      aria-label={props.label}
    >
      <div role="presentation" style={{ height: `${shown}px`, position: 'relative' }}>
        <div
          role="presentation"
          style={{
            position: 'absolute',
            insetInline: '0',
            top: `${from * rowPx - top + scrollTop}px`
          }}
        >
          {rows}
        </div>
      </div>
    </div>
  );
}
