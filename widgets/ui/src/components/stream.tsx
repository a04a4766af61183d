import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { clock, compact, duration, shortCommit } from '../model/format';
import type { Trans } from '../model/trans';
import type { AttemptStatus } from '../model/types';
import type { Source } from '../source/source';
import type { AccessStore } from '../stores/access';
import type { GateItem, Item, LineItem, ToolItem } from '../stores/items';
import type { StreamStore } from '../stores/stream';
import type { Hit } from '../stores/search';
import { filtered, isOfKind, snippet, textOf } from '../stores/transcript';
import { AccessRequests } from './access';
import { Block, PREVIEW_CHARS } from './block';
import { RejectForm } from './card';
import {
  Button,
  Cost,
  DeniedTag,
  GateLights,
  LinkDot,
  ProblemBanner,
  ReasonLine,
  ReplayTag,
  SnapshotLabel,
  StatusChip,
  TooLate
} from './common';
import { useTrans } from './context';
import { ExcerptTools, Meter, Speak, type StreamHooks, StreamTools } from './streamtools';
import { Windowed } from './windowed';

const ROW_ESTIMATE_PX = 34;

interface StreamProps extends StreamHooks {
  store: StreamStore;
  source: Source;
}

export function Stream({
  store,
  access,
  source,
  work,
  openAttempt
}: StreamProps & { access: AccessStore }): JSX.Element {
  const trans = useTrans();
  const problem = store.problem.value;
  // Items change in place; the revision says when.
  void store.revision.value;
  const excerpt = store.excerpt.value;
  const items = excerpt
    ? store.items
    : filtered(store.items, store.kind.value, store.search.value);
  const rows: readonly Row[] = excerpt ? items : [...foundBefore(store), ...items];
  const attempt = store.attempt.value;
  return (
    <section class="jp-rootbound jp-rootbound-Stream" aria-label={trans.__('Attempt stream')}>
      <StreamHeader store={store} source={source} />
      {excerpt ? (
        <ExcerptTools store={store} excerpt={excerpt} />
      ) : (
        store.items.length > 0 && <StreamTools store={store} items={items} />
      )}
      <AccessRequests store={access} source={source} quiet={store.problem.value !== null} />
      {problem && (
        <ProblemBanner
          problem={problem}
          onRetry={store.attempt.value ? undefined : () => void store.open()}
          onDismiss={
            store.attempt.value
              ? () => {
                  store.problem.value = null;
                }
              : undefined
          }
        />
      )}
      {((!attempt && !problem) || (store.items.length === 0 && store.isLoading && !problem)) && (
        <p class="jp-rootbound-Empty" role="status">
          {trans.__('Loading…')}
        </p>
      )}
      {rows.length === 0 && store.items.length > 0 && !store.beyond.busy.value && (
        <p class="jp-rootbound-Empty">{trans.__('Nothing here is like that.')}</p>
      )}
      {store.items.length === 0 && attempt && !store.isLoading && (
        <p class="jp-rootbound-Empty">
          {(attempt.first_seq ?? 1) > 1
            ? trans.__('The events of this attempt were removed, as the project keeps them no longer.')
            : trans.__('No events yet.')}
        </p>
      )}
      {rows.length > 0 && (
        <Windowed
          key={excerpt?.seq ?? 0}
          count={rows.length}
          keyAt={index => rows[index]?.key ?? index}
          render={index => <Entry row={rows[index]} store={store} found={excerpt?.key} />}
          reveal={excerpt?.key}
          estimate={ROW_ESTIMATE_PX}
          label={trans.__('Events')}
          role="log"
          follow={store.follow.value}
          onFollow={follow => {
            store.follow.value = follow && excerpt === null;
          }}
        />
      )}
      {attempt && work && source.live.value && (
        <Speak
          key={attempt.id}
          attempt={store.seen ?? attempt}
          work={work}
          openAttempt={openAttempt}
          onLate={() => void store.lookAgain()}
        />
      )}
    </section>
  );
}

function StreamHeader({ store, source }: StreamProps): JSX.Element {
  const trans = useTrans();
  // The status in which the reader began to write why.
  const [rejecting, setRejecting] = useState<AttemptStatus | null>(null);
  const attempt = store.attempt.value;
  const late = store.late.value;
  const live = source.live.value;
  const { input_tokens: tokensIn, output_tokens: tokensOut } = store.usage.value;
  const disabled = !live || store.busy.value;
  return (
    <header class="jp-rootbound-Stream-head">
      <div class="jp-rootbound-Toolbar">
        {attempt?.task_title && (
          <strong class="jp-rootbound-Stream-title" title={attempt.task_title}>
            {attempt.task_title}
          </strong>
        )}
        <span class={attempt?.task_title ? 'jp-rootbound-Muted' : undefined}>
          {attempt ? trans.__('Attempt %1', attempt.number) : trans.__('Attempt')}
        </span>
        {!live && <SnapshotLabel />}
        {live && !store.ended.value && <LinkDot link={store.link.value} />}
        {live && !store.ended.value && store.lag.value > 0 && (
          <span class="jp-rootbound-Muted" role="status">
            {trans.__('%1 behind', duration(store.lag.value))}
          </span>
        )}
        <span class="jp-rootbound-Spacer" />
        {attempt && (
          <Button
            pressed={store.follow.value}
            label={trans.__('Keep the newest event in view')}
            onClick={() => {
              const follows = store.follow.value;
              store.leaveExcerpt();
              store.follow.value = !follows;
            }}
          >
            {trans.__('Follow')}
          </Button>
        )}
        {store.canCancel.value && (
          <Button kind="danger" disabled={disabled} onClick={() => void store.cancel()}>
            {trans.__('Cancel')}
          </Button>
        )}
        {store.canReview.value && !rejecting && (
          <>
            <Button kind="primary" disabled={disabled} onClick={() => void store.approve()}>
              {trans.__('Approve')}
            </Button>
            <Button kind="danger" disabled={disabled} onClick={() => setRejecting('REVIEW')}>
              {trans.__('Reject…')}
            </Button>
          </>
        )}
      </div>
      {(late || rejecting) && (
        <TooLate
          late={late}
          before={rejecting}
          now={store.busy.value ? rejecting : (attempt?.status ?? null)}
          typed={rejecting !== null}
          onDismiss={
            late
              ? () => {
                  store.late.value = null;
                }
              : undefined
          }
        />
      )}
      {rejecting && attempt && (
        <RejectForm
          about={attempt.id}
          disabled={disabled || !store.canReview.value}
          onCancel={() => setRejecting(null)}
          onReject={async reason => {
            const done = await store.reject(reason);
            if (done) {
              setRejecting(null);
            }
            return done;
          }}
        />
      )}
      {attempt && (
        <div class="jp-rootbound-Card-facts">
          <StatusChip status={attempt.status} />
          {attempt.agent?.is_replay && <ReplayTag />}
          <GateLights gates={attempt.gates} />
          <DeniedTag count={attempt.denied_count} />
          {attempt.agent && (
            <span class="jp-rootbound-Muted" title={attempt.agent.name}>
              {attempt.agent.model}
            </span>
          )}
          {tokensIn !== undefined && (
            <span class="jp-rootbound-Muted">
              {trans.__('%1 in, %2 out', compact(tokensIn), compact(tokensOut ?? 0))}
            </span>
          )}
          <Cost usage={store.usage.value} />
        </div>
      )}
      <Meter store={store} />
      {attempt && <ReasonLine attempt={attempt} />}
    </header>
  );
}

/** An entry, or one of the events that the server found in front of them. */
type Row = Item | { kind: 'found'; key: number; hit: Hit };

function foundBefore(store: StreamStore): Row[] {
  const kind = store.kind.value;
  return store.beyond.hits.value
    .filter(({ item }) => isOfKind(item, kind))
    .map(hit => ({ kind: 'found', key: hit.seq, hit }));
}

interface EntryProps {
  row: Row | undefined;
  store: StreamStore;
  /** Key of the entry that was looked for. */
  found: number | undefined;
}

function Entry({ row, store, found }: EntryProps): JSX.Element | null {
  if (!row) {
    return null;
  }
  if (row.kind === 'found') {
    return <Found hit={row.hit} store={store} />;
  }
  return row.key === found ? (
    <div class="jp-rootbound-Found" aria-current="true">
      <ItemEntry item={row} store={store} />
    </div>
  ) : (
    <ItemEntry item={row} store={store} />
  );
}

/** An event that is not here but was found, and the way to it. */
function Found({ hit, store }: { hit: Hit; store: StreamStore }): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Line jp-mod-found">
      <time class="jp-rootbound-Muted" dateTime={hit.item.timestamp}>
        {clock(hit.item.timestamp)}
      </time>
      <div class="jp-rootbound-Line-found">{snippet(textOf(hit.item), store.search.value)}</div>
      <Button
        label={trans.__('Show event %1 and what is around it', hit.seq)}
        disabled={store.busy.value}
        onClick={() => void store.show(hit.seq)}
      >
        {trans.__('Show')}
      </Button>
    </div>
  );
}

function ItemEntry({ item, store }: { item: Item; store: StreamStore }): JSX.Element | null {
  const trans = useTrans();
  switch (item.kind) {
    case 'text':
      return <p class="jp-rootbound-Text">{item.text}</p>;
    case 'thinking':
      return (
        <Fold item={item} store={store} open={false} head={<em>{trans.__('Thinking')}</em>}>
          <p class="jp-rootbound-Text jp-mod-thinking">{item.text}</p>
        </Fold>
      );
    case 'tool':
      return <ToolEntry item={item} store={store} />;
    case 'gate':
      return <GateEntry item={item} store={store} />;
    case 'gap':
      return <Gap item={item} store={store} />;
    default:
      return <Line item={item} />;
  }
}

/** Stands for events that are not shown; at the head of a stream they can be. */
function Gap({ item, store }: { item: LineItem; store: StreamStore }): JSX.Element {
  const trans = useTrans();
  return (
    <>
      <Line item={item} />
      {store.canReadBefore(item) && (
        <Button disabled={store.busy.value} onClick={() => void store.readEarlier()}>
          {trans.__('Show earlier events')}
        </Button>
      )}
    </>
  );
}

interface FoldProps {
  item: Item;
  store: StreamStore;
  /** Whether it is open until the reader decides. */
  open: boolean;
  head: JSX.Element;
  children: JSX.Element | null;
  state?: 'ok' | 'bad' | 'busy';
}

function Fold({ item, store, open, head, children, state }: FoldProps): JSX.Element {
  const shown = store.toggled.value.has(item.key) !== open;
  return (
    <div class="jp-rootbound-Fold" data-state={state}>
      <button
        type="button"
        class="jp-rootbound-Fold-head"
        aria-expanded={shown}
        onClick={() => store.toggle(item.key)}
      >
        <span class="jp-rootbound-Fold-arrow" aria-hidden="true" />
        {head}
      </button>
      {shown && <div class="jp-rootbound-Fold-body">{children}</div>}
    </div>
  );
}

/** The argument that tells calls apart: a path, a command, a pattern. */
function preview(args: ToolItem['args']): string {
  const chosen = ['command', 'path', 'pattern', 'query', 'summary']
    .map(key => args[key])
    .find(value => typeof value === 'string' || Array.isArray(value));
  const text = Array.isArray(chosen) ? chosen.join(' ') : String(chosen ?? '');
  const line = text.split('\n', 1)[0] ?? '';
  return line.length > PREVIEW_CHARS ? `${line.slice(0, PREVIEW_CHARS)}…` : line;
}

function ToolEntry({ item, store }: { item: ToolItem; store: StreamStore }): JSX.Element {
  const trans = useTrans();
  const { result } = item;
  const state = result ? (result.ok ? 'ok' : 'bad') : 'busy';
  const head = (
    <>
      <code class="jp-rootbound-Fold-name">{item.tool}</code>
      <span class="jp-rootbound-Fold-preview">{preview(item.args)}</span>
      <span class="jp-rootbound-Muted">
        {!result && trans.__('running')}
        {result && !result.ok && trans.__('failed')}
        {result?.duration_s != null && ` ${duration(result.duration_s)}`}
      </span>
    </>
  );
  return (
    <Fold item={item} store={store} open={false} head={head} state={state}>
      <>
        {Object.entries(item.args).map(([name, value]) => (
          <Block key={name} label={name} text={asText(value)} />
        ))}
        <Block label={trans.__('output')} text={item.output} />
        {result && <Block label={trans.__('result')} text={result.text} />}
      </>
    </Fold>
  );
}

function GateEntry({ item, store }: { item: GateItem; store: StreamStore }): JSX.Element {
  const trans = useTrans();
  const { evidence } = item;
  const state = evidence ? (evidence.exit_code === 0 ? 'ok' : 'bad') : 'busy';
  const address = store.logAddress(item);
  const head = (
    <>
      <span class="jp-rootbound-Fold-name">{trans.__('Gate %1', item.name)}</span>
      <code class="jp-rootbound-Fold-preview">{item.command}</code>
      <span class="jp-rootbound-Muted">
        {evidence
          ? trans.__('exit code %1, %2', evidence.exit_code, duration(evidence.duration_s))
          : trans.__('running')}
      </span>
    </>
  );
  return (
    <Fold item={item} store={store} open={state === 'bad'} head={head} state={state}>
      <>
        {evidence && (
          <p class="jp-rootbound-Muted jp-rootbound-Evidence">
            {trans.__('at commit %1', shortCommit(evidence.commit))}
            {evidence.log_digest ? ` · ${evidence.log_digest.slice(0, 19)}…` : ''}
            {address && (
              <>
                {' · '}
                <a href={address} download={evidence.log_artifact}>
                  {trans.__('Download the whole log')}
                </a>
              </>
            )}
          </p>
        )}
        <Block label={trans.__('output')} text={item.output} />
      </>
    </Fold>
  );
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}

function lineText(item: LineItem, trans: Trans): string {
  switch (item.kind) {
    case 'commit':
      return trans.__('Commit %1', shortCommit(item.text));
    case 'said':
      return trans.__('You told the agent: %1', item.text);
    case 'baseline':
      return item.more.length > 0
        ? trans.__('Gate %1 fails with this change alone in:', item.text)
        : trans.__('Gate %1 was tried on the commit before this change.', item.text);
    case 'retry':
      return trans.__('Asking the model again: %1', item.text);
    case 'enforcement':
      return trans.__('Confinement: tier %1', item.text);
    case 'gap':
      return trans._n('%1 event not shown here', '%1 events not shown here', Number(item.text));
    default:
      return item.text;
  }
}

function Line({ item }: { item: LineItem }): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Line" data-kind={item.kind}>
      <time class="jp-rootbound-Muted" dateTime={item.timestamp}>
        {clock(item.timestamp)}
      </time>
      <div>
        {lineText(item, trans)}
        {item.writable?.map(folder => (
          <div key={folder} class="jp-rootbound-Line-more">
            {trans.__('May write in %1', folder)}
          </div>
        ))}
        {item.more.map((text, index) => (
          <div key={index} class="jp-rootbound-Line-more">
            {text}
          </div>
        ))}
      </div>
    </div>
  );
}
