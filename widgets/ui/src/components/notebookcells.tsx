import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import { type PatchLine, parsePatch } from '../model/patch';
import type {
  MetadataChange,
  NotebookCell,
  NotebookDiff,
  NotebookOutput,
  PictureChange
} from '../model/types';
import type { Place } from '../model/work';
import { type ReviewStore, placeKey } from '../stores/review';
import { Button } from './common';
import { useTrans } from './context';
import type { Trans } from '../model/trans';
import { type Layout, PatchTable, placesOf } from './patchtable';
import { Remarks } from './remarks';

// Shown in steps, so that the page stays quick.
const STEP_CELLS = 100;
const PICTURES = ['image/png', 'image/jpeg'];
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

interface Shared {
  path: string;
  layout: Layout;
  /** Takes comments; without it the cells are only shown. */
  review?: ReviewStore;
}

interface NotebookCellsProps extends Shared {
  notebook: NotebookDiff;
}

interface CellLines {
  cell: NotebookCell;
  lines: PatchLine[];
}

/** How many lines a notebook's outputs show. */
export function outputLines(notebook: NotebookDiff): number {
  const outputs = notebook.cells.flatMap(cell => cell.outputs);
  return outputs.reduce((sum, { patch }) => sum + patch.split('\n').length, 0);
}

/** A cell's lines: what of it is left out shows as dots, for its hunks count the whole text's lines. */
function cellLines(patch: string): PatchLine[] {
  const [, ...lines] = parsePatch(patch);
  return lines.map(line => (line.kind === 'hunk' ? { ...line, text: '⋯' } : line));
}

/** What changed in a notebook, cell by cell. */
export function NotebookCells({ notebook, ...shared }: NotebookCellsProps): JSX.Element {
  const trans = useTrans();
  const [shown, setShown] = useState(STEP_CELLS);
  const cells = useMemo(
    () => notebook.cells.map(cell => ({ cell, lines: cellLines(cell.patch) })),
    [notebook]
  );
  const nothing = !notebook.note && cells.length === 0 && notebook.metadata.length === 0;
  return (
    <div class="jp-rootbound-Cells">
      {notebook.note && <p class="jp-rootbound-Muted">{notebook.note}</p>}
      {nothing && (
        <p class="jp-rootbound-Muted">
          {trans.__('Nothing differs but what each run changes, such as execution counts.')}
        </p>
      )}
      <Metadata changes={notebook.metadata} />
      {shared.review && <Elsewhere cells={cells} review={shared.review} path={shared.path} />}
      {cells.slice(0, shown).map(({ cell, lines }, index) => (
        <Cell key={index} cell={cell} lines={lines} {...shared} />
      ))}
      {cells.length > shown && (
        <Button onClick={() => setShown(shown + STEP_CELLS)}>
          {trans.__('Show more (%1 cells left)', cells.length - shown)}
        </Button>
      )}
    </div>
  );
}

/** The place of a cell as a whole: its heading's line in the notebook's text. */
function headOf(path: string, cell: NotebookCell): Place {
  return cell.after_line === null
    ? { path, side: 'old', line: cell.before_line }
    : { path, side: 'new', line: cell.after_line };
}

interface ElsewhereProps {
  cells: CellLines[];
  path: string;
  review: ReviewStore;
}

/** The comments on lines that no cell below shows, such as one that was not changed. */
function Elsewhere({ cells, path, review }: ElsewhereProps): JSX.Element {
  const trans = useTrans();
  const drawn = useMemo(
    () =>
      new Set(
        cells.flatMap(({ cell, lines }) =>
          [headOf(path, cell), ...placesOf(path, lines)].map(placeKey)
        )
      ),
    [cells, path]
  );
  const places = new Map<string, Place>();
  for (const comment of review.comments.value) {
    const key = placeKey(comment);
    if (comment.path === path && comment.line !== null && !drawn.has(key)) {
      places.set(key, comment);
    }
  }
  return (
    <>
      {[...places].map(([key, place]) => (
        <div key={key}>
          <p class="jp-rootbound-Muted">
            {trans.__("On line %1 of the notebook's text", place.line ?? 0)}
          </p>
          <Remarks store={review} place={place} />
        </div>
      ))}
    </>
  );
}

function changeWord(kind: NotebookCell['kind'], trans: Trans): string {
  return {
    added: trans.__('added'),
    deleted: trans.__('removed'),
    modified: trans.__('changed'),
    moved: trans.__('moved')
  }[kind];
}

function promptOf(cell: NotebookCell, trans: Trans): string {
  switch (cell.cell_type) {
    case 'markdown':
      return trans.__('Markdown');
    case 'raw':
      return trans.__('Raw');
    default:
      return `In [${cell.execution_count ?? ' '}]`;
  }
}

interface CellProps extends Shared {
  cell: NotebookCell;
  lines: PatchLine[];
}

function Cell({ cell, lines, ...shared }: CellProps): JSX.Element {
  const trans = useTrans();
  const { path, layout, review } = shared;
  const word = changeWord(cell.kind, trans);
  const number =
    cell.before !== null && cell.after !== null && cell.before !== cell.after
      ? trans.__('cell %1 → %2', cell.before, cell.after)
      : trans.__('cell %1', cell.after ?? cell.before ?? 0);
  const prompt = promptOf(cell, trans);
  const label = `${prompt} ${word}, ${number}`;
  const head = headOf(path, cell);
  const start = { old: cell.before_line ?? 0, new: cell.after_line ?? 0 };
  return (
    <article class="jp-rootbound-Cell" data-change={cell.kind} aria-label={label}>
      <header class="jp-rootbound-Cell-head">
        <span class="jp-rootbound-Cell-prompt">{prompt}</span>
        <span class="jp-rootbound-Tag">{word}</span>
        <span class="jp-rootbound-Muted">{number}</span>
        <span class="jp-rootbound-Spacer" />
        {review && (
          <Button label={trans.__('Comment on the cell')} onClick={() => review.write(head, '')}>
            +
          </Button>
        )}
      </header>
      {review && <Remarks store={review} place={head} />}
      <Metadata changes={cell.metadata} />
      {lines.length > 0 && (
        <PatchTable
          path={path}
          lines={lines}
          layout={layout}
          review={review}
          start={start}
          label={label}
        />
      )}
      {cell.truncated && <Cut />}
      {cell.outputs.map((output, index) => (
        <Output key={index} output={output} path={path} layout={layout} />
      ))}
    </article>
  );
}

function Cut(): JSX.Element {
  const trans = useTrans();
  return <p class="jp-rootbound-Muted">{trans.__('The rest is too long to be shown.')}</p>;
}

interface OutputProps extends Shared {
  output: NotebookOutput;
}

function Output({ output, path, layout }: OutputProps): JSX.Element {
  const trans = useTrans();
  const lines = useMemo(() => cellLines(output.patch), [output.patch]);
  const label = trans.__('Output %1 %2', output.name, changeWord(output.kind, trans));
  return (
    <section class="jp-rootbound-Output" aria-label={label}>
      <p class="jp-rootbound-Muted">{label}</p>
      {lines.length > 0 && <PatchTable path={path} lines={lines} layout={layout} label={label} />}
      {output.truncated && <Cut />}
      {output.pictures.map(change => (
        <Pictures key={change.mime} change={change} />
      ))}
      {output.others.length > 0 && (
        <p class="jp-rootbound-Muted">
          {trans.__('Differs, and is not shown: %1', output.others.join(', '))}
        </p>
      )}
    </section>
  );
}

/** A picture before and after, side by side. */
function Pictures({ change }: { change: PictureChange }): JSX.Element {
  const trans = useTrans();
  const picture = (data: string | null, caption: string): JSX.Element | null =>
    data !== null && PICTURES.includes(change.mime) && BASE64.test(data) ? (
      <figure class="jp-rootbound-Picture">
        <figcaption class="jp-rootbound-Muted">{caption}</figcaption>
        <img src={`data:${change.mime};base64,${data}`} alt={caption} />
      </figure>
    ) : null;
  return (
    <>
      <div class="jp-rootbound-Pictures">
        {picture(change.before, trans.__('Picture before'))}
        {picture(change.after, trans.__('Picture now'))}
      </div>
      {change.left_out && (
        <p class="jp-rootbound-Muted">
          {trans.__('A picture (%1) is too large to be shown, or is none.', change.mime)}
        </p>
      )}
    </>
  );
}

function Metadata({ changes }: { changes: readonly MetadataChange[] }): JSX.Element | null {
  const trans = useTrans();
  if (changes.length === 0) {
    return null;
  }
  return (
    <ul class="jp-rootbound-CellMetadata" aria-label={trans.__('Metadata')}>
      {changes.map(({ key, before, after }) => (
        <li key={key}>
          {`${key}: `}
          {before !== null && <del>{before}</del>}
          {after !== null && <ins>{after}</ins>}
        </li>
      ))}
    </ul>
  );
}
