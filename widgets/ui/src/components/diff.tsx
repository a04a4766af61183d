import type { JSX } from 'preact';

import { shortCommit } from '../model/format';
import type { Diff } from '../model/types';
import type { Source } from '../source/source';
import type { Loaded } from '../stores/loaded';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';
import { sentence } from './labels';
import { FileDiff } from './patch';

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
          <p>{sentence(problem, trans)}</p>
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
