import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { copied } from '../model/clipboard';
import { type ProblemError, asProblem } from '../model/problem';
import { type Attempt, isLive } from '../model/types';
import type { Work } from '../source/work';
import type { Item } from '../stores/items';
import type { Excerpt } from '../stores/search';
import type { StreamStore } from '../stores/stream';
import { KINDS, type Kind, transcript } from '../stores/transcript';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { sentence } from './labels';
import { useDraft } from './draft';
import { FieldError, invalid, refusal, useElementId } from './form';

export interface StreamHooks {
  /** Speaks to agents and starts attempts; without it the stream is only read. */
  work?: Work;
  openAttempt?: (attemptId: string) => void;
  /** Told which attempt it is, for a tab's title. */
  named?: (attempt: Attempt) => void;
}

interface ToolsProps {
  items: readonly Item[];
  store: StreamStore;
}

/** Filter, search, copy, download. */
export function StreamTools({ store, items }: ToolsProps): JSX.Element {
  const trans = useTrans();
  const [done, setCopied] = useState(false);
  const names: Record<Kind, string> = {
    all: trans.__('Everything'),
    talk: trans.__('What the agent says'),
    tools: trans.__('Tools'),
    gates: trans.__('Gates'),
    problems: trans.__('Problems')
  };
  return (
    <div class="jp-rootbound-Toolbar jp-rootbound-Filters" role="search">
      <select
        class="jp-rootbound-Select"
        aria-label={trans.__('Show')}
        value={store.kind.value}
        onChange={event => {
          store.kind.value = event.currentTarget.value as Kind;
        }}
      >
        {KINDS.map(kind => (
          <option key={kind} value={kind}>
            {names[kind]}
          </option>
        ))}
      </select>
      <input
        class="jp-rootbound-Input jp-mod-wide"
        type="search"
        aria-label={trans.__('Search the stream')}
        placeholder={trans.__('Search the stream')}
        value={store.search.value}
        onInput={event => {
          store.look(event.currentTarget.value);
        }}
      />
      {store.search.value !== '' && <Counts store={store} here={items.length} />}
      <Button
        label={trans.__('Copy what is shown')}
        onClick={() => {
          void copied(transcript(items)).then(setCopied);
        }}
      >
        {done ? trans.__('Copied') : trans.__('Copy')}
      </Button>
      <Button label={trans.__('Download what is shown')} onClick={() => save(items, store)}>
        ↓
      </Button>
    </div>
  );
}

/** How much was found, here and in front of what is here, and the way to look further back. */
function Counts({ store, here }: { store: StreamStore; here: number }): JSX.Element {
  const trans = useTrans();
  const { hits, busy, further, problem, looked } = store.beyond;
  const before = hits.value.length;
  const nothing = looked.value && before === 0 && !busy.value;
  return (
    <>
      <span class="jp-rootbound-Muted" role="status">
        {trans._n('%1 entry', '%1 entries', here)}
        {before > 0 && ` · ${trans._n('%1 earlier event', '%1 earlier events', before)}`}
        {nothing && ` · ${trans.__('no earlier event with these whole words')}`}
        {busy.value && ` · ${trans.__('looking further back…')}`}
        {problem.value && ` · ${sentence(problem.value, trans)}`}
      </span>
      {further.value !== null && !busy.value && (
        <Button
          label={trans.__('Look for these whole words in the events before')}
          onClick={() => void store.beyond.more()}
        >
          {trans.__('Search further back')}
        </Button>
      )}
    </>
  );
}

/** Where the reader is when an event was looked up, and the ways on and back. */
export function ExcerptTools({
  store,
  excerpt
}: {
  store: StreamStore;
  excerpt: Excerpt;
}): JSX.Element {
  const trans = useTrans();
  return (
    <div class="jp-rootbound-Toolbar jp-rootbound-Filters">
      <span role="status">
        {trans.__(
          'Events %1 to %2 of %3',
          excerpt.from,
          excerpt.to,
          store.attempt.value?.last_seq ?? excerpt.to
        )}
      </span>
      <span class="jp-rootbound-Spacer" />
      {store.hasLater && (
        <Button disabled={store.busy.value} onClick={() => void store.readLater()}>
          {trans.__('Show later events')}
        </Button>
      )}
      <Button kind="primary" onClick={() => store.leaveExcerpt()}>
        {trans.__('Back to the newest')}
      </Button>
    </div>
  );
}

function save(items: readonly Item[], store: StreamStore): void {
  const url = URL.createObjectURL(new Blob([transcript(items)], { type: 'text/plain' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `attempt-${store.attempt.value?.id ?? 'stream'}.txt`;
  link.click();
  URL.revokeObjectURL(url);
}

/** How far the attempt is: steps of its limit, then gates. */
export function Meter({ store }: { store: StreamStore }): JSX.Element | null {
  const trans = useTrans();
  const attempt = store.attempt.value;
  if (!attempt || !isLive(attempt.status) || attempt.status === 'QUEUED') {
    return null;
  }
  if (attempt.status === 'GATES') {
    const done = new Set(
      attempt.gates
        .filter(gate => gate.commit === attempt.head_commit && gate.exit_code === 0)
        .map(gate => gate.name)
    ).size;
    return (
      <div class="jp-rootbound-Meter">
        <span>{trans.__('Gates')}</span>
        <progress value={done} max={3} aria-label={trans.__('Gates passed')} />
        <span>{trans.__('%1 passed', done)}</span>
      </div>
    );
  }
  const steps = store.usage.value.steps ?? 0;
  const most = attempt.agent?.max_steps;
  return (
    <div class="jp-rootbound-Meter">
      <span>{trans.__('Agent')}</span>
      {most ? (
        <progress value={steps} max={most} aria-label={trans.__('Steps used')} />
      ) : (
        <progress aria-label={trans.__('The agent is at work')} />
      )}
      <span>
        {most ? trans.__('step %1 of at most %2', steps, most) : trans.__('step %1', steps)}
      </span>
    </div>
  );
}

interface SpeakProps {
  attempt: Attempt;
  work: Work;
  openAttempt?: (attemptId: string) => void;
  /** Somebody else was quicker: look again. */
  onLate(): void;
}

/** A message to an agent at work; once it is over, a new attempt with what was learnt. */
export function Speak({ attempt, work, openAttempt, onLate }: SpeakProps): JSX.Element | null {
  const trans = useTrans();
  const draft = useDraft(`say ${attempt.id}`, '');
  const text = draft.value;
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [said, setSaid] = useState('');
  const id = useElementId();
  const refused = refusal(problem, ['text', 'feedback']);
  const wrong = refused.of('text', 'feedback');
  const atWork = attempt.status === 'RUNNING' || attempt.status === 'GATES';
  const failed = attempt.status === 'FAILED';
  if (!atWork && !failed) {
    return null;
  }
  const submit = async (): Promise<void> => {
    setSaid('');
    try {
      if (atWork) {
        await work.tell(attempt.id, text);
        setSaid(trans.__('Sent.'));
      } else {
        const made = await work.retry(attempt, text);
        if (openAttempt) {
          openAttempt(made.id);
        } else {
          setSaid(trans.__('Attempt %1 was started.', made.number));
        }
      }
      draft.clear();
      setProblem(null);
    } catch (reason) {
      const refusal = asProblem(reason);
      setProblem(refusal);
      if (refusal.isTooLate) {
        onLate();
      }
    }
  };
  return (
    <form
      class="jp-rootbound-Speak"
      onSubmit={event => {
        event.preventDefault();
        void submit();
      }}
      onKeyDown={event => event.stopPropagation()}
    >
      {refused.rest && (
        <Banner
          tone={refused.rest.isTooLate ? 'warn' : 'error'}
          onDismiss={() => setProblem(null)}
        >
          {sentence(refused.rest, trans)}
        </Banner>
      )}
      <div class="jp-rootbound-Row">
        <input
          {...invalid(id, wrong)}
          class="jp-rootbound-Input jp-mod-wide"
          aria-label={atWork ? trans.__('Message to the agent') : trans.__('What to do differently')}
          placeholder={
            atWork
              ? trans.__('Tell the agent something; it reads it with its next step')
              : trans.__('What should the next attempt do differently? (may be empty)')
          }
          value={text}
          onInput={event => draft.set(event.currentTarget.value)}
        />
        <button
          type="submit"
          class="jp-rootbound-Button jp-mod-primary"
          disabled={atWork && !text.trim()}
        >
          {atWork ? trans.__('Send') : trans.__('Try again')}
        </button>
      </div>
      <FieldError id={id} error={wrong} />
      {said && (
        <p class="jp-rootbound-Muted" role="status">
          {said}
        </p>
      )}
    </form>
  );
}
