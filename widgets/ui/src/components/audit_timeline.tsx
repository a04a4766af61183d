import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';

import { clock, compact } from '../model/format';
import type { AuditTimeline } from '../model/types';
import { useTrans } from './context';

const WIDTH = 1000;
const HEIGHT = 64;
const LEAST_BARS = 30;

interface TimelineProps {
  timeline: AuditTimeline;
  /** Narrow the audit to a stretch of time; null where that cannot be done. */
  onChoose: ((since: string, until: string) => void) | null;
}

interface Scale {
  start: number;
  bars: number;
  step: number;
  peak: number;
}

function scaleOf({ bucket_s, buckets }: AuditTimeline): Scale {
  const step = bucket_s * 1000;
  const first = Date.parse(buckets[0]?.timestamp ?? '');
  const last = Date.parse(buckets[buckets.length - 1]?.timestamp ?? '');
  const bars = Math.max(LEAST_BARS, Math.round((last - first) / step) + 1);
  const peak = Math.max(1, ...buckets.map(one => one.allowed + one.denied));
  return { start: first, bars, step, peak };
}

/** Square root: a few denials stay visible beside thousands of reads. */
function height(count: number, peak: number): number {
  return count === 0 ? 0 : Math.max(2, Math.sqrt(count / peak) * HEIGHT);
}

/** Allowed and denied operations a second; drag, or use the arrow keys, to choose a stretch. */
export function Timeline({ timeline, onChoose }: TimelineProps): JSX.Element | null {
  const trans = useTrans();
  const plot = useRef<SVGSVGElement>(null);
  const [range, setRange] = useState<[number, number] | null>(null);
  const dragging = useRef(false);
  const { buckets, bucket_s } = timeline;
  if (buckets.length === 0) {
    return null;
  }
  const { start, bars, step, peak } = scaleOf(timeline);
  const wide = WIDTH / bars;
  const moment = (bar: number): string => new Date(start + bar * step).toISOString();
  const barAt = (event: PointerEvent): number => {
    const box = plot.current?.getBoundingClientRect();
    const share = box && box.width > 0 ? (event.clientX - box.left) / box.width : 0;
    return Math.min(bars - 1, Math.max(0, Math.floor(share * bars)));
  };
  const choose = (chosen: [number, number]): void => {
    const [from, to] = [Math.min(...chosen), Math.max(...chosen)];
    setRange(null);
    onChoose?.(moment(from), moment(to + 1));
  };
  const byKey = (event: KeyboardEvent): void => {
    const [from, to] = range ?? [-1, -1];
    const move = (by: number): [number, number] => {
      const next = Math.min(bars - 1, Math.max(0, to + by));
      return event.shiftKey && range ? [from, next] : [next, next];
    };
    if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      event.preventDefault();
      setRange(move(event.key === 'ArrowRight' ? 1 : -1));
    } else if (event.key === 'Enter' && range) {
      event.preventDefault();
      choose(range);
    } else if (event.key === 'Escape' && range) {
      event.stopPropagation();
      setRange(null);
    }
  };
  const total = (field: 'allowed' | 'denied'): number =>
    buckets.reduce((sum, one) => sum + one[field], 0);
  const rate = (count: number): string => compact(Math.round((count / bucket_s) * 10) / 10);
  const about = trans.__(
    'Operations over time: %1 allowed, %2 denied; at most %3 a second.',
    compact(total('allowed')),
    compact(total('denied')),
    rate(peak)
  );
  const said = range
    ? `${clock(moment(Math.min(...range)))} – ${clock(moment(Math.max(...range) + 1))}`
    : '';
  return (
    <figure class="jp-rootbound-Timeline">
      <svg
        ref={plot}
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="slider"
        tabIndex={onChoose ? 0 : -1}
        aria-label={about}
        aria-valuemin={0}
        aria-valuemax={bars - 1}
        aria-valuenow={range ? range[1] : 0}
        aria-valuetext={said || about}
        aria-disabled={onChoose === null}
        onKeyDown={onChoose ? byKey : undefined}
        onPointerDown={event => {
          if (onChoose) {
            dragging.current = true;
            event.currentTarget.setPointerCapture(event.pointerId);
            setRange([barAt(event), barAt(event)]);
          }
        }}
        onPointerMove={event => {
          if (dragging.current && range) {
            setRange([range[0], barAt(event)]);
          }
        }}
        onPointerUp={() => {
          if (dragging.current && range) {
            choose(range);
          }
          dragging.current = false;
        }}
      >
        {buckets.map(one => {
          const x = Math.round((Date.parse(one.timestamp) - start) / step) * wide;
          const all = height(one.allowed + one.denied, peak);
          const denied = height(one.denied, peak);
          return (
            <g key={one.timestamp}>
              <title>
                {trans.__(
                  '%1: %2 allowed and %3 denied in %4 s',
                  clock(one.timestamp),
                  one.allowed,
                  one.denied,
                  bucket_s
                )}
              </title>
              <rect x={x} width={wide * 0.9} y={HEIGHT - all} height={all} class="jp-mod-allowed" />
              <rect
                x={x}
                width={wide * 0.9}
                y={HEIGHT - denied}
                height={denied}
                class="jp-mod-denied"
              />
            </g>
          );
        })}
        {range && (
          <rect
            class="jp-mod-range"
            x={Math.min(...range) * wide}
            width={(Math.abs(range[1] - range[0]) + 1) * wide}
            y={0}
            height={HEIGHT}
          />
        )}
      </svg>
      <figcaption class="jp-rootbound-Timeline-scale">
        <span>{clock(moment(0))}</span>
        <span>
          {said ||
            trans.__('peak %1/s, %2 s a bar; drag to narrow', rate(peak), String(bucket_s))}
        </span>
        <span>{clock(moment(bars))}</span>
      </figcaption>
    </figure>
  );
}
