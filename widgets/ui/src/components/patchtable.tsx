import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { PatchLine } from '../model/patch';
import { sideBySide } from '../model/sides';
import type { Place } from '../model/work';
import type { ReviewStore } from '../stores/review';
import { Button } from './common';
import { useTrans } from './context';
import { Remarks } from './remarks';

// Shown in steps, so that the page stays quick.
const STEP_LINES = 2_000;

export type Layout = 'unified' | 'split';

type Side = 'old' | 'new';

interface Shared {
  path: string;
  /** What is taken off the numbers shown: the line above the first. Default 0. */
  start?: { [side in Side]: number };
  /** Takes comments; without it the patch is only shown. */
  review?: ReviewStore;
}

interface PatchTableProps extends Shared {
  lines: readonly PatchLine[];
  layout: Layout;
  label: string;
}

/** The place of a line that a comment can be put at. */
function placeOf(path: string, line: PatchLine, side: Side): Place | null {
  const number = side === 'old' ? line.before : line.after;
  return number === null ? null : { path, side, line: number };
}

/** The places of a patch at which comments are shown. */
export function placesOf(path: string, lines: readonly PatchLine[]): Place[] {
  return lines.flatMap(line => [
    ...(line.kind === 'same' ? [] : [placeOf(path, line, 'old')]),
    placeOf(path, line, 'new')
  ]).filter(place => place !== null);
}

/** The lines of a patch, with the comments on them. */
export function PatchTable({ lines, layout, label, ...shared }: PatchTableProps): JSX.Element {
  const trans = useTrans();
  const [shown, setShown] = useState(STEP_LINES);
  const part = lines.slice(0, shown);
  return (
    <>
      <div class={`jp-rootbound-Patch jp-mod-${layout}`} role="table" aria-label={label}>
        {layout === 'split'
          ? sideBySide(part).map((row, index) => <SplitRow key={index} {...row} {...shared} />)
          : part.map((line, index) => <UnifiedRow key={index} line={line} {...shared} />)}
      </div>
      {lines.length > shown && (
        <Button onClick={() => setShown(shown + STEP_LINES)}>
          {trans.__('Show more (%1 lines left)', lines.length - shown)}
        </Button>
      )}
    </>
  );
}

interface NumberProps extends Shared {
  line: PatchLine | null;
  side: Side;
}

/** A line number; where there is a review, it is the button that comments on the line. */
function LineNumber({ line, side, path, start, review }: NumberProps): JSX.Element {
  const trans = useTrans();
  const place = line && placeOf(path, line, side);
  const number = place && (place.line ?? 0) - (start?.[side] ?? 0);
  return (
    <span class="jp-rootbound-PatchLine-number" role="cell">
      {place && review ? (
        <button
          type="button"
          class="jp-rootbound-LineButton"
          tabIndex={-1}
          aria-label={trans.__('Comment on line %1', number ?? 0)}
          onClick={() => review.write(place, '')}
        >
          {number}
        </button>
      ) : (
        (number ?? '')
      )}
    </span>
  );
}

interface UnifiedRowProps extends Shared {
  line: PatchLine;
}

function UnifiedRow({ line, ...shared }: UnifiedRowProps): JSX.Element {
  const { path, review } = shared;
  const before = placeOf(path, line, 'old');
  const after = placeOf(path, line, 'new');
  return (
    <>
      <div
        class="jp-rootbound-PatchLine"
        data-kind={line.kind}
        role="row"
        tabIndex={review && (before ?? after) ? 0 : undefined}
        onKeyDown={event => {
          const place = after ?? before;
          if (event.key === 'c' && review && place && event.currentTarget === event.target) {
            event.preventDefault();
            review.write(place, '');
          }
        }}
      >
        <LineNumber line={line} side="old" {...shared} />
        <LineNumber line={line} side="new" {...shared} />
        <span class="jp-rootbound-PatchLine-sign" role="cell">
          {line.kind === 'add' ? '+' : line.kind === 'remove' ? '−' : ''}
        </span>
        <code class="jp-rootbound-PatchLine-text" role="cell">
          {line.text}
        </code>
      </div>
      {review && before && line.kind !== 'same' && <Remarks store={review} place={before} inTable />}
      {review && after && <Remarks store={review} place={after} inTable />}
    </>
  );
}

interface SplitRowProps extends Shared {
  before: PatchLine | null;
  after: PatchLine | null;
}

function SplitRow({ before, after, ...shared }: SplitRowProps): JSX.Element {
  const { path, review } = shared;
  const old = before && placeOf(path, before, 'old');
  const fresh = after && placeOf(path, after, 'new');
  if (before?.kind === 'hunk' || before?.kind === 'note') {
    return (
      <div class="jp-rootbound-PatchLine" data-kind={before.kind} role="row">
        <span role="cell" />
        <code class="jp-rootbound-PatchLine-text jp-mod-whole" role="cell">
          {before.text}
        </code>
      </div>
    );
  }
  const half = (line: PatchLine | null, side: Side): JSX.Element => (
    <>
      <LineNumber line={line} side={side} {...shared} />
      <code
        class="jp-rootbound-PatchLine-text"
        role="cell"
        data-kind={line === null ? 'none' : line.kind}
      >
        {line?.text}
      </code>
    </>
  );
  return (
    <>
      <div class="jp-rootbound-PatchLine" role="row">
        {half(before, 'old')}
        {half(after, 'new')}
      </div>
      {review && old && before?.kind === 'remove' && <Remarks store={review} place={old} inTable />}
      {review && fresh && <Remarks store={review} place={fresh} inTable />}
    </>
  );
}
