import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import { parsePatch } from '../model/patch';
import type { DiffFile } from '../model/types';
import type { Place } from '../model/work';
import type { ReviewStore } from '../stores/review';
import { Button } from './common';
import { useTrans } from './context';
import { NotebookCells, outputLines } from './notebookcells';
import { type Layout, PatchTable } from './patchtable';
import { Remarks } from './remarks';

// A longer patch is opened by the reader, so that the page stays quick.
const OPEN_LINES = 400;

interface FileDiffProps {
  file: DiffFile;
  layout?: Layout;
  /** Takes comments; without it the file is only shown. */
  review?: ReviewStore;
}

/** One file's patch, foldable. */
export function FileDiff({ file, layout = 'unified', review }: FileDiffProps): JSX.Element {
  const trans = useTrans();
  const lines = useMemo(() => parsePatch(file.patch), [file.patch]);
  const cells = file.notebook;
  const byCell = file.by_cell && cells && (cells.cells.length > 0 || !cells.note) ? cells : null;
  const [open, setOpen] = useState(
    lines.length + (byCell ? outputLines(byCell) : 0) <= OPEN_LINES
  );
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
      {open && cells?.note && !byCell && (
        <p class="jp-rootbound-Muted jp-rootbound-File-note">{cells.note}</p>
      )}
      {open && byCell && (
        <NotebookCells path={file.path} notebook={byCell} layout={layout} review={review} />
      )}
      {open && !file.binary && !byCell && (
        <PatchTable path={file.path} lines={lines} layout={layout} review={review} label={name} />
      )}
      {open && file.truncated && (
        <p class="jp-rootbound-Muted jp-rootbound-File-note">
          {trans.__('The patch is too long to show in full; see the branch.')}
        </p>
      )}
    </section>
  );
}
