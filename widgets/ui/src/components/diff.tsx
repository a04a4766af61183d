import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import { shortCommit } from '../model/format';
import { parsePatch } from '../model/patch';
import type { Diff, DiffFile } from '../model/types';
import type { Source } from '../source/source';
import type { Loaded } from '../stores/loaded';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';

// A longer patch is opened by the reader, and shown in steps, so that the page stays quick.
const OPEN_LINES = 400;
const STEP_LINES = 2_000;

interface DiffProps {
  store: Loaded<Diff>;
  source: Source;
}

export function DiffPanel({ store, source }: DiffProps): JSX.Element {
  const trans = useTrans();
  const diff = store.value.value;
  const problem = store.problem.value;
  const live = source.live.value;
  // Before its first commit an attempt has no diff; that is no error.
  const hasNone = problem !== null && (problem.status === 409 || problem.code === 'no-diff');
  return (
    <section class="jp-rootbound jp-rootbound-Diff" aria-label={trans.__('Changes')}>
      {problem && hasNone && (
        <div class="jp-rootbound-Empty" role="status">
          <p>{problem.detail}</p>
          {live && <Button onClick={() => void store.load()}>{trans.__('Look again')}</Button>}
        </div>
      )}
      {problem && !hasNone && (
        <ProblemBanner problem={problem} onRetry={() => void store.load()} />
      )}
      {!diff && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {diff && (
        <header class="jp-rootbound-Toolbar">
          <strong>
            {trans._n('%1 file changed', '%1 files changed', diff.stats.files)}
          </strong>
          <span class="jp-rootbound-Added">+{diff.stats.additions}</span>
          <span class="jp-rootbound-Removed">−{diff.stats.deletions}</span>
          <code class="jp-rootbound-Muted">
            {shortCommit(diff.base)}…{shortCommit(diff.head)}
          </code>
          {!live && <SnapshotLabel />}
          <span class="jp-rootbound-Spacer" />
          {live && (
            <Button label={trans.__('Read again')} onClick={() => void store.load()}>
              ↻
            </Button>
          )}
        </header>
      )}
      {diff && (
        <div class="jp-rootbound-Diff-files">
          {diff.files.length === 0 && (
            <p class="jp-rootbound-Empty">{trans.__('No file was changed.')}</p>
          )}
          {diff.files.map(file => (
            <FileDiff key={file.path} file={file} />
          ))}
        </div>
      )}
    </section>
  );
}

function FileDiff({ file }: { file: DiffFile }): JSX.Element {
  const trans = useTrans();
  const lines = useMemo(() => parsePatch(file.patch), [file.patch]);
  const [open, setOpen] = useState(lines.length <= OPEN_LINES);
  const [shown, setShown] = useState(STEP_LINES);
  const name =
    file.old_path !== null && file.old_path !== file.path
      ? `${file.old_path} → ${file.path}`
      : file.path;
  return (
    <section class="jp-rootbound-File" data-change={file.status}>
      <button
        type="button"
        class="jp-rootbound-Fold-head"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        <span class="jp-rootbound-Fold-arrow" aria-hidden="true" />
        <span class="jp-rootbound-File-name">{name}</span>
        <span class="jp-rootbound-Muted">{file.status}</span>
        <span class="jp-rootbound-Added">+{file.additions}</span>
        <span class="jp-rootbound-Removed">−{file.deletions}</span>
      </button>
      {open && file.binary && (
        <p class="jp-rootbound-Muted jp-rootbound-File-note">{trans.__('Binary file')}</p>
      )}
      {open && !file.binary && (
        <div class="jp-rootbound-Patch" role="table" aria-label={name}>
          {lines.slice(0, shown).map((line, index) => (
            <div key={index} class="jp-rootbound-PatchLine" data-kind={line.kind} role="row">
              <span class="jp-rootbound-PatchLine-number" role="cell">
                {line.before}
              </span>
              <span class="jp-rootbound-PatchLine-number" role="cell">
                {line.after}
              </span>
              <span class="jp-rootbound-PatchLine-sign" role="cell">
                {line.kind === 'add' ? '+' : line.kind === 'remove' ? '−' : ''}
              </span>
              <code class="jp-rootbound-PatchLine-text" role="cell">
                {line.text}
              </code>
            </div>
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
