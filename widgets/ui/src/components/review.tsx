import type { ReadonlySignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { duration, shortCommit } from '../model/format';
import type { AttemptStatus, Gate } from '../model/types';
import type { Comparison, MergePreview, Place } from '../model/work';
import type { ReviewStore } from '../stores/review';
import {
  Banner,
  Button,
  DeniedTag,
  GateLights,
  ProblemBanner,
  SnapshotLabel,
  StatusChip,
  TooLate
} from './common';
import { useTrans } from './context';
import { sentence } from './labels';
import { useDraft } from './draft';
import { Drawer, Field, Submit } from './form';
import { FileDiff } from './patch';
import type { Layout } from './patchtable';
import { Remarks } from './remarks';

export interface ReviewHooks {
  /** False where nobody answers any more: then nothing can be decided. */
  live?: ReadonlySignal<boolean>;
  openAttempt?: (attemptId: string) => void;
}

interface ReviewProps extends ReviewHooks {
  store: ReviewStore;
}

const WHOLE: Place = { path: '', side: 'new', line: null };

/** The changes of an attempt with their evidence, and what a person says of them. */
export function Review(props: ReviewProps): JSX.Element {
  const { store } = props;
  const trans = useTrans();
  const [layout, setLayout] = useState<Layout>('unified');
  const [asking, setAsking] = useState<Asking | null>(null);
  const attempt = store.attempt.value;
  const diff = store.diff.value;
  const problem = store.problem.value;
  const late = store.late.value;
  const live = props.live?.value ?? true;
  return (
    <section class="jp-rootbound jp-rootbound-Review" aria-label={trans.__('Review')}>
      <header class="jp-rootbound-Toolbar">
        {attempt && <StatusChip status={attempt.status} />}
        {!live && <SnapshotLabel />}
        {diff && (
          <>
            <strong>{trans._n('%1 file changed', '%1 files changed', diff.stats.files)}</strong>
            <span class="jp-rootbound-Added">+{diff.stats.additions}</span>
            <span class="jp-rootbound-Removed">−{diff.stats.deletions}</span>
            <code class="jp-rootbound-Muted">
              {shortCommit(diff.base)}…{shortCommit(diff.head)}
            </code>
          </>
        )}
        <span class="jp-rootbound-Spacer" />
        <Button
          pressed={layout === 'split'}
          onClick={() => setLayout(layout === 'split' ? 'unified' : 'split')}
        >
          {trans.__('Side by side')}
        </Button>
        <Button label={trans.__('Read again')} onClick={() => void store.reload()}>
          ↻
        </Button>
      </header>
      {problem && (
        <ProblemBanner
          problem={problem}
          onRetry={attempt ? undefined : () => void store.load()}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {(late || asking) && (
        <TooLate
          late={late}
          before={asking?.before ?? null}
          now={store.busy.value ? (asking?.before ?? null) : (attempt?.status ?? null)}
          typed={asking !== null}
          onDismiss={
            late
              ? () => {
                  store.late.value = null;
                }
              : undefined
          }
        />
      )}
      <div class="jp-rootbound-Page">
        {attempt && live && <Decision {...props} asking={asking} setAsking={setAsking} />}
        {attempt?.status === 'SUCCESS' && <Pushing store={store} />}
        {attempt?.summary && <p class="jp-rootbound-Text">{attempt.summary}</p>}
        {attempt && attempt.gates.length > 0 && (
          <Evidence gates={attempt.gates} head={attempt.head_commit} />
        )}
        {store.others.value.length > 1 && <Others {...props} rows={store.others.value} />}
        <Remarks store={store} place={WHOLE} />
        {store.noDiff.value && !diff && (
          <p class="jp-rootbound-Empty" role="status">
            {sentence(store.noDiff.value, trans)}
          </p>
        )}
        {!attempt && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
        {diff?.files.length === 0 && (
          <p class="jp-rootbound-Empty">{trans.__('No file was changed.')}</p>
        )}
        {diff?.files.map(file => (
          <FileDiff
            key={`${file.path} ${layout}`}
            file={file}
            layout={layout}
            review={store}
          />
        ))}
      </div>
    </section>
  );
}

/** What is being written, and what the attempt was when that began. */
interface Asking {
  what: 'changes' | 'reject';
  before: AttemptStatus | null;
}

interface DecisionProps extends ReviewProps {
  asking: Asking | null;
  setAsking(asking: Asking | null): void;
}

/** Approve, ask for changes, reject; and what approving would do. */
function Decision({ store, openAttempt, asking, setAsking }: DecisionProps): JSX.Element | null {
  const trans = useTrans();
  const draft = useDraft(`decide ${store.attemptId}`, '');
  const text = draft.value;
  const preview = store.preview.value;
  const disabled = store.busy.value;
  const go = async (starting: Promise<string | null>): Promise<void> => {
    const id = await starting;
    if (id !== null) {
      setAsking(null);
      draft.clear();
      openAttempt?.(id);
    }
  };
  const ask = (what: Asking['what']): void =>
    setAsking({ what, before: store.attempt.value?.status ?? null });
  // What is being written stays, whatever becomes of the attempt meanwhile.
  if (asking !== null) {
    const rejecting = asking.what === 'reject';
    const possible = rejecting ? store.canDecide.value : store.canGoOn.value;
    const count = store.comments.value.length;
    return (
      <Drawer
        label={rejecting ? trans.__('Reject') : trans.__('Request changes')}
        onClose={() => setAsking(null)}
        onSubmit={() => {
          if (rejecting) {
            void store.reject(text.trim()).then(done => {
              if (done) {
                draft.clear();
                setAsking(null);
              }
            });
          } else {
            void go(store.requestChanges(text.trim()));
          }
        }}
      >
        <Field
          label={rejecting ? trans.__('Why (the next attempt learns from it)') : trans.__('What should be different?')}
          error={store.problem.value?.fields.get(rejecting ? 'reason' : 'feedback')}
        >
          <textarea
            class="jp-rootbound-Input"
            rows={2}
            value={text}
            ref={area => area?.focus()}
            onInput={event => draft.set(event.currentTarget.value)}
          />
        </Field>
        {!rejecting && count > 0 && (
          <p class="jp-rootbound-Muted">
            {trans._n('The agent is told your %1 comment as well.', 'The agent is told your %1 comments as well.', count)}
          </p>
        )}
        <div class="jp-rootbound-Row">
          <Submit
            kind={rejecting ? 'danger' : 'primary'}
            disabled={disabled || !possible || (!text.trim() && (rejecting || count === 0))}
          >
            {rejecting ? trans.__('Reject') : trans.__('Start an attempt that goes on')}
          </Submit>
          <Button onClick={() => setAsking(null)}>{trans.__('Back')}</Button>
        </div>
      </Drawer>
    );
  }
  if (!store.canGoOn.value) {
    return null;
  }
  const mergeable = preview === null || preview.clean;
  return (
    <div class="jp-rootbound-Decision">
      {preview && <Preview preview={preview} />}
      <div class="jp-rootbound-Row">
        {store.canDecide.value && (
          <Button
            kind="primary"
            disabled={disabled || !mergeable}
            onClick={() => void store.approve()}
          >
            {trans.__('Approve and merge')}
          </Button>
        )}
        <Button disabled={disabled} onClick={() => ask('changes')}>
          {trans.__('Request changes…')}
        </Button>
        {store.canDecide.value && (
          <Button kind="danger" disabled={disabled} onClick={() => ask('reject')}>
            {trans.__('Reject…')}
          </Button>
        )}
        {preview && preview.clean && preview.behind > 0 && (
          <Button disabled={disabled} onClick={() => void go(store.update(false))}>
            {trans.__('Bring up to date and check again')}
          </Button>
        )}
        {preview && !preview.clean && (
          <Button kind="primary" disabled={disabled} onClick={() => void go(store.update(true))}>
            {trans.__('Have the agent settle the conflicts')}
          </Button>
        )}
        <Button onClick={() => store.write(WHOLE, '')}>{trans.__('Comment on the whole')}</Button>
      </div>
    </div>
  );
}

/** How the merge gets to others, which is the user's to do. */
function Pushing({ store }: { store: ReviewStore }): JSX.Element {
  const trans = useTrans();
  const branch = store.preview.value?.base_branch;
  return (
    <>
      <p class="jp-rootbound-Muted">
        {trans.__('It is merged on this machine. To publish it, push in your checkout:')}
      </p>
      <pre class="jp-rootbound-Code jp-mod-snippet">
        {branch ? `git push origin ${branch}` : 'git push'}
      </pre>
    </>
  );
}

/** What merging would do, in one sentence. */
function Preview({ preview }: { preview: MergePreview }): JSX.Element {
  const trans = useTrans();
  const { base_branch: branch, behind } = preview;
  if (!preview.clean) {
    return (
      <Banner tone="warn">
        {trans.__(
          'This conflicts with “%1” as it is now, in: %2.',
          branch,
          preview.files.join(', ')
        )}
      </Banner>
    );
  }
  const parts = [trans.__('Merges into “%1” without conflict.', branch)];
  if (behind > 0) {
    parts.push(
      trans._n(
        'The gates ran without its %1 newer commit.',
        'The gates ran without its %1 newer commits.',
        behind
      )
    );
  }
  if (preview.checkout !== null && preview.checkout_dirty) {
    parts.push(
      trans.__(
        'Your checkout has “%1” open with work that is not committed; commit or stash it first.',
        branch
      )
    );
  }
  return (
    <p class="jp-rootbound-Muted" role="status">
      {parts.join(' ')}
    </p>
  );
}

/** What each gate said, and at which commit. */
function Evidence({ gates, head }: { gates: readonly Gate[]; head: string | null }): JSX.Element {
  const trans = useTrans();
  return (
    <table class="jp-rootbound-Table" aria-label={trans.__('Gate evidence')}>
      <thead>
        <tr>
          <th>{trans.__('Gate')}</th>
          <th>{trans.__('Exit code')}</th>
          <th>{trans.__('Time')}</th>
          <th>{trans.__('Commit')}</th>
          <th>{trans.__('Log')}</th>
          <th>{trans.__('Command')}</th>
        </tr>
      </thead>
      <tbody>
        {gates.map((gate, index) => (
          <tr key={index} data-state={gate.exit_code === 0 ? 'passed' : 'failed'}>
            <td>{gate.name}</td>
            <td>
              {gate.exit_code}
              {gate.flaky && (
                <span
                  class="jp-rootbound-Tag jp-mod-replay"
                  title={trans.__('It failed at this commit and passed when run again.')}
                >
                  {trans.__('flaky')}
                </span>
              )}
            </td>
            <td>{duration(gate.duration_s)}</td>
            <td>
              <code>{shortCommit(gate.commit)}</code>
              {gate.commit !== head && ` (${trans.__('earlier')})`}
            </td>
            <td>
              <code title={gate.log_digest}>{gate.log_digest.slice(0, 15)}</code>
            </td>
            <td>
              <code>{gate.command}</code>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The attempts of the task side by side. */
function Others({
  store,
  openAttempt,
  rows
}: ReviewProps & { rows: readonly Comparison[] }): JSX.Element {
  const trans = useTrans();
  const here = store.attempt.value?.id;
  return (
    <details class="jp-rootbound-Choices">
      <summary>{trans.__('All %1 attempts of this task', rows.length)}</summary>
      <table class="jp-rootbound-Table" aria-label={trans.__('Attempts side by side')}>
        <thead>
          <tr>
            <th />
            <th>{trans.__('Result')}</th>
            <th>{trans.__('Changes')}</th>
            <th>{trans.__('Gates')}</th>
            <th>{trans.__('Cost')}</th>
            <th>{trans.__('Steps')}</th>
            <th>{trans.__('Time')}</th>
            <th>{trans.__('Comments')}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(row => (
            <tr key={row.id} aria-current={row.id === here}>
              <td>
                {openAttempt && row.id !== here ? (
                  <Button onClick={() => openAttempt(row.id)}>#{row.number}</Button>
                ) : (
                  `#${row.number}`
                )}
              </td>
              <td>
                <StatusChip status={row.status} /> {row.failure && <code>{row.failure}</code>}{' '}
                <DeniedTag count={row.denied_count} />
              </td>
              <td>
                <span class="jp-rootbound-Added">+{row.diff_stats.additions ?? 0}</span>{' '}
                <span class="jp-rootbound-Removed">−{row.diff_stats.deletions ?? 0}</span>
              </td>
              <td>
                <GateLights gates={gatesOf(row)} />
              </td>
              <td>{row.cost_usd === null ? '–' : `$${row.cost_usd.toFixed(3)}`}</td>
              <td>{row.steps}</td>
              <td>{row.seconds === null ? '–' : duration(row.seconds)}</td>
              <td>{row.comments}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

function gatesOf(row: Comparison): Gate[] {
  return (['install', 'lint', 'test'] as const).flatMap(name => {
    const gate = row.gates[name];
    return gate && gate.exit_code !== null
      ? [
          {
            name,
            commit: '',
            command: '',
            exit_code: gate.exit_code,
            duration_s: gate.duration_s,
            log_digest: '',
            log_artifact: null
          }
        ]
      : [];
  });
}
