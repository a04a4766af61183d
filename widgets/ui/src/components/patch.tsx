import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import { type PatchLine, parsePatch } from '../model/patch';
import { sideBySide } from '../model/sides';
import type { DiffFile } from '../model/types';
import type { Place } from '../model/work';
import type { ReviewStore } from '../stores/review';
import { Button } from './common';
import { useTrans } from './context';
import { Remarks } from './remarks';

// A longer patch is opened by the reader, and shown in steps, so that the page stays quick.
const OPEN_LINES = 400;
const STEP_LINES = 2_000;

export type Layout = 'unified' | 'split';

interface FileDiffProps {
  file: DiffFile;
  layout?: Layout;
  /** Takes comments; without it the file is only shown. */
  review?: ReviewStore;
}

/** The place of a line that a comment can be put at. */
function placeOf(file: DiffFile, line: PatchLine, side: 'old' | 'new'): Place | null {
  const number = side === 'old' ? line.before : line.after;
  return number === null ? null : { path: file.path, side, line: number };
}

/** One file's patch, foldable. */
export function FileDiff({ file, layout = 'unified', review }: FileDiffProps): JSX.Element {
  const trans = useTrans();
  const lines = useMemo(() => parsePatch(file.patch), [file.patch]);
  const [open, setOpen] = useState(lines.length <= OPEN_LINES);
  const [shown, setShown] = useState(STEP_LINES);
  const name =
    file.old_path !== null && file.old_path !== file.path
      ? `${file.old_path} → ${file.path}`
      : file.path;
  const whole: Place = { path: file.path, side: 'new', line: null };
  return (
    <section class="jp-rootbound-File" data-change={file.status} aria-label={name}>
      <div class="jp-rootbound-File-head">
        <button
          type="button"
          class="jp-rootbound-Fold-head"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          <span class="jp-rootbound-Fold-arrow" aria-hidden="true" />
          <span class="jp-rootbound-File-name">{name}</span>
          {file.test && (
            <span
              class="jp-rootbound-Tag jp-mod-replay"
              title={trans.__('This file decides what the tests say.')}
            >
              {trans.__('test')}
            </span>
          )}
          {file.by_cell && <span class="jp-rootbound-Tag">{trans.__('by cell')}</span>}
          <span class="jp-rootbound-Muted">{file.status}</span>
          <span class="jp-rootbound-Added">+{file.additions}</span>
          <span class="jp-rootbound-Removed">−{file.deletions}</span>
        </button>
        {review && (
          <Button label={trans.__('Comment on the file')} onClick={() => review.write(whole, '')}>
            +
          </Button>
        )}
      </div>
      {review && <Remarks store={review} place={whole} />}
      {open && file.binary && (
        <p class="jp-rootbound-Muted jp-rootbound-File-note">{trans.__('Binary file')}</p>
      )}
      {open && !file.binary && (
        <div class={`jp-rootbound-Patch jp-mod-${layout}`} role="table" aria-label={name}>
          {layout === 'split'
            ? sideBySide(lines.slice(0, shown)).map((row, index) => (
                <SplitRow key={index} file={file} {...row} review={review} />
              ))
            : lines
                .slice(0, shown)
                .map((line, index) => (
                  <UnifiedRow key={index} file={file} line={line} review={review} />
                ))}
        </div>
      )}
      {open && lines.length > shown && (
        <Button onClick={() => setShown(shown + STEP_LINES)}>
          {trans.__('Show more (%1 lines left)', lines.length - shown)}
        </Button>
      )}
      {open && file.truncated && (
        <p class="jp-rootbound-Muted jp-rootbound-File-note">
          {trans.__('The patch is too long to show in full; see the branch.')}
        </p>
      )}
    </section>
  );
}

interface NumberProps {
  line: PatchLine | null;
  side: 'old' | 'new';
  file: DiffFile;
  review?: ReviewStore;
}

/** A line number; where there is a review, it is the button that comments on the line. */
function LineNumber({ line, side, file, review }: NumberProps): JSX.Element {
  const trans = useTrans();
  const place = line && placeOf(file, line, side);
  return (
    <span class="jp-rootbound-PatchLine-number" role="cell">
      {place && review ? (
        <button
          type="button"
          class="jp-rootbound-LineButton"
          tabIndex={-1}
          aria-label={trans.__('Comment on line %1', place.line ?? 0)}
          onClick={() => review.write(place, '')}
        >
          {place.line}
        </button>
      ) : (
        (place?.line ?? '')
      )}
    </span>
  );
}

interface UnifiedRowProps {
  file: DiffFile;
  line: PatchLine;
  review?: ReviewStore;
}

function UnifiedRow({ file, line, review }: UnifiedRowProps): JSX.Element {
  const before = placeOf(file, line, 'old');
  const after = placeOf(file, line, 'new');
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
        <LineNumber line={line} side="old" file={file} review={review} />
        <LineNumber line={line} side="new" file={file} review={review} />
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

interface SplitRowProps {
  file: DiffFile;
  before: PatchLine | null;
  after: PatchLine | null;
  review?: ReviewStore;
}

function SplitRow({ file, before, after, review }: SplitRowProps): JSX.Element {
  const old = before && placeOf(file, before, 'old');
  const fresh = after && placeOf(file, after, 'new');
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
  const half = (line: PatchLine | null, side: 'old' | 'new'): JSX.Element => (
    <>
      <LineNumber line={line} side={side} file={file} review={review} />
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
