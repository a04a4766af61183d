import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { ProblemError } from '../model/problem';
import type { Trans } from '../model/trans';
import type { FirstAttempt, GuidePart, GuideStore, ModelTest } from '../stores/guide';
import { Button, ProblemBanner } from './common';
import { useTrans } from './context';
import { useDraft } from './draft';
import { ChooseFolder, Field, refusal, useFirstInvalid } from './form';
import type { RootHooks } from './roots';

export interface GuideHooks extends RootHooks {
  /** Type a command into a terminal of Lab; false when there are no terminals. */
  runInTerminal?: (command: string) => Promise<boolean>;
  openAttempt?: (attemptId: string) => void;
  openBoard?: () => void;
  /** Show the services with their logs. */
  openStatus?: () => void;
}

interface GuideProps extends GuideHooks {
  store: GuideStore;
}

const EMPTY: FirstAttempt = {
  repoPath: '',
  testCommand: '',
  installCommand: '',
  title: '',
  description: ''
};

const FIELDS = ['path', 'repo_path', 'config.install_cmd', 'config.test_cmd', 'title', 'description'];

/** From nothing to the demo, or to the first attempt of one's own. */
export function Guide(props: GuideProps): JSX.Element {
  const { store } = props;
  const trans = useTrans();
  const ready = store.stack.value?.state === 'ready';
  const hasModel = ready && store.provider !== null;
  return (
    <section class="jp-rootbound jp-rootbound-Guide" aria-label={trans.__('Getting started')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Getting started')}</strong>
        <span class="jp-rootbound-Spacer" />
        {props.openBoard && ready && (
          <Button onClick={props.openBoard}>{trans.__('Task Board')}</Button>
        )}
      </header>
      <ol class="jp-rootbound-Page jp-rootbound-Steps">
        <Step title={trans.__('Services')} done={ready}>
          <Services {...props} />
        </Step>
        <Step title={trans.__('Model')} done={hasModel && !store.isKeyRefused} later={!ready}>
          {ready && <Model {...props} />}
        </Step>
        <Step title={trans.__('Your first attempt')} done={false} later={!hasModel}>
          {hasModel && <First {...props} />}
        </Step>
      </ol>
    </section>
  );
}

interface StepProps {
  title: string;
  done: boolean;
  /** Whether an earlier one has to be done first. */
  later?: boolean;
  children: ComponentChildren;
}

function Step({ title, done, later = false, children }: StepProps): JSX.Element {
  const trans = useTrans();
  return (
    <li class="jp-rootbound-Step" data-done={done} data-later={later}>
      <h3 class="jp-rootbound-Heading">
        {title}{' '}
        {done && (
          <span class="jp-rootbound-Chip" data-status="SUCCESS">
            {trans.__('done')}
          </span>
        )}
      </h3>
      {children}
    </li>
  );
}

interface StepProblemProps {
  store: GuideStore;
  part: GuidePart;
  /** What of the problem is not shown beside a field. */
  problem?: ProblemError | null;
  onRetry(): void;
}

/** What went wrong, in the step where it did, with another try. */
function StepProblem(props: StepProblemProps): JSX.Element | null {
  const { store, part, problem = store.problem.value, onRetry } = props;
  return problem && store.part.value === part ? (
    <ProblemBanner
      problem={problem}
      onRetry={onRetry}
      onDismiss={() => store.dismiss()}
      onStart={() => void store.start()}
    />
  ) : null;
}

function Services({ store, openStatus }: GuideProps): JSX.Element {
  const trans = useTrans();
  const stack = store.stack.value;
  const problem = (
    <StepProblem store={store} part="services" onRetry={() => void store.load()} />
  );
  if (stack?.state === 'ready') {
    return (
      <>
        <p>{trans.__('The services run on this machine, and for you alone.')}</p>
        {problem}
      </>
    );
  }
  if (store.problem.value && !store.problem.value.isPassing) {
    return problem;
  }
  const failed = stack?.state === 'failed';
  const still = stack?.state === 'stopped';
  return (
    <>
      <p>
        {trans.__(
          'A database, a queue, a worker and the local agent, which alone touches your files. They run on this machine, and for you alone.'
        )}
      </p>
      <p role={failed ? 'alert' : 'status'} class={failed ? 'jp-rootbound-Failure' : ''}>
        {!failed && !still && <span class="jp-rootbound-Spinner" aria-hidden="true" />}
        {stack?.message ?? trans.__('Looking at the services…')}
      </p>
      {(still || failed) && (
        <div class="jp-rootbound-Row">
          <Button kind="primary" onClick={() => void store.start()}>
            {failed ? trans.__('Try again') : trans.__('Start the services')}
          </Button>
          {failed && openStatus && (
            <Button onClick={openStatus}>{trans.__('Services and their logs')}</Button>
          )}
        </div>
      )}
    </>
  );
}

function Model(props: GuideProps): JSX.Element {
  const { store } = props;
  const trans = useTrans();
  const { provider } = store;
  if (store.keys.value === null) {
    return <p role="status">{trans.__('Looking for a key of a model…')}</p>;
  }
  if (provider === null) {
    return <NoKey {...props} />;
  }
  const testing = store.step.value === 'test';
  return (
    <>
      <p>
        {trans.__(
          'There is a key for %1. It stays with the local agent, and goes to the vendor’s own address only.',
          provider
        )}
      </p>
      <Button disabled={store.step.value !== null} onClick={() => void store.tryAgents()}>
        {testing
          ? trans.__('Asking the models…')
          : store.tests.value.length > 0
            ? trans.__('Test again')
            : trans.__('Test the agents’ models')}
      </Button>
      <StepProblem store={store} part="model" onRetry={() => void store.tryAgents()} />
      <ul class="jp-rootbound-Tests" role="list" aria-label={trans.__('What the models answered')}>
        {store.tests.value.map(test => (
          <TestLine key={test.agents[0]?.id} test={test} />
        ))}
      </ul>
      {store.isKeyRefused && (
        <>
          <p>{trans.__('Give the services another key; attempts at work end, as they start again:')}</p>
          <EnterKey {...props} />
        </>
      )}
    </>
  );
}

function TestLine({ test: { agents, answer } }: { test: ModelTest }): JSX.Element {
  const trans = useTrans();
  const state = answer === null ? 'none' : answer.ok ? 'passed' : 'failed';
  return (
    <li role="status" class="jp-rootbound-Gate jp-rootbound-Test" data-state={state}>
      <span class="jp-rootbound-Gate-light" aria-hidden="true">
        {state === 'passed' ? '✓' : state === 'failed' ? '✕' : ''}
      </span>
      <span>
        {answer?.message ?? trans.__('Asking %1…', agents[0]?.model ?? '')}{' '}
        <span class="jp-rootbound-Muted">{agents.map(agent => agent.name).join(', ')}</span>
      </span>
    </li>
  );
}

const KEY_NAMES = ['GEMINI_API_KEY', 'GLM_API_KEY'] as const;

/** A command of Rootbound's, by the interpreter it is installed in: PATH may not have it. */
function commandLine({ store }: GuideProps, rest: string): string {
  const python = store.stack.value?.python ?? 'python';
  return `'${python}' -m rootbound.cli ${rest}`;
}

/** Ways to give the services a key: in a terminal, which asks for it without showing it. */
function EnterKey(props: GuideProps): JSX.Element {
  const { store, runInTerminal } = props;
  const trans = useTrans();
  const [refused, setRefused] = useState(false);
  const ask = (name: string): string => commandLine(props, `up --ask-key ${name}`);
  const enter = async (name: string): Promise<void> => {
    const typed = await runInTerminal?.(ask(name));
    setRefused(typed !== true);
    if (typed) {
      await store.awaitKey();
    }
  };
  return (
    <>
      <div class="jp-rootbound-Row">
        {runInTerminal &&
          KEY_NAMES.map(name => (
            <Button key={name} onClick={() => void enter(name)}>
              {trans.__('Enter %1…', name)}
            </Button>
          ))}
        <Button onClick={() => void store.awaitKey()}>{trans.__('Look again')}</Button>
      </div>
      {refused || !runInTerminal ? (
        <>
          <p>{trans.__('This server has no terminals; type this into one of your own:')}</p>
          <pre class="jp-rootbound-Code">{ask(KEY_NAMES[0])}</pre>
        </>
      ) : (
        <p class="jp-rootbound-Muted">
          {trans.__(
            'A terminal asks for it without showing it, and starts the services with it. It is written nowhere; the OS keyring and the environment work as well.'
          )}
        </p>
      )}
    </>
  );
}

/** Without a key: the demo, which needs none, and how to bring one. */
function NoKey(props: GuideProps): JSX.Element {
  const { runInTerminal } = props;
  const trans = useTrans();
  const [refused, setRefused] = useState(false);
  const command = commandLine(props, 'demo');
  return (
    <>
      <p>{trans.__('No key of a model is set. With one of yours, agents work on your projects:')}</p>
      <EnterKey {...props} />
      <p>
        {trans.__(
          'The demo needs none: a recorded model repairs a real project, and everything else is real: the plan, the agents’ commands, the confinement, the tests and the merge. It takes some minutes.'
        )}
      </p>
      {runInTerminal && (
        <Button
          kind="primary"
          onClick={() => void runInTerminal(command).then(done => setRefused(!done))}
        >
          {trans.__('Run the demo')}
        </Button>
      )}
      {(refused || !runInTerminal) && (
        <>
          <p>{trans.__('This server has no terminals; type this into one of your own:')}</p>
          <pre class="jp-rootbound-Code">{command}</pre>
        </>
      )}
    </>
  );
}

/** The first attempt: a folder, how to test it, and what is wanted. */
function First({ store, pickFolder, openAttempt }: GuideProps): JSX.Element {
  const trans = useTrans();
  const draft = useDraft('first attempt', EMPTY);
  const form = draft.value;
  const step = store.step.value;
  const refused = refusal(store.problem.value, FIELDS);
  const host = useFirstInvalid(store.problem.value);
  const set = (part: Partial<FirstAttempt>): void => draft.change(old => ({ ...old, ...part }));
  const complete = form.repoPath.trim() !== '' && form.title.trim() !== '';
  const begin = async (): Promise<void> => {
    const attempt = await store.begin({
      ...form,
      repoPath: form.repoPath.trim(),
      title: form.title.trim(),
      description: form.description.trim() || form.title.trim()
    });
    if (attempt !== null) {
      draft.clear();
      openAttempt?.(attempt);
    }
  };
  return (
    <form
      ref={host}
      class="jp-rootbound-Form"
      onSubmit={event => {
        event.preventDefault();
        void begin();
      }}
    >
      <div class="jp-rootbound-Row jp-mod-choose">
        <Field
          label={trans.__('Folder of a git repository')}
          error={refused.of('path', 'repo_path')}
          wide
        >
          <input
            class="jp-rootbound-Input"
            value={form.repoPath}
            placeholder={trans.__('/absolute/path')}
            onInput={event => set({ repoPath: event.currentTarget.value })}
          />
        </Field>
        <ChooseFolder pickFolder={pickFolder} onChosen={repoPath => set({ repoPath })} />
      </div>
      <Field
        label={trans.__('Command that installs it (may be empty)')}
        error={refused.of('config.install_cmd')}
      >
        <input
          class="jp-rootbound-Input"
          value={form.installCommand}
          placeholder="python -m venv .venv && .venv/bin/pip install -e ."
          onInput={event => set({ installCommand: event.currentTarget.value })}
        />
      </Field>
      <Field
        label={trans.__('Command that tests it')}
        error={refused.of('config.test_cmd')}
      >
        <input
          class="jp-rootbound-Input"
          value={form.testCommand}
          placeholder="python -m pytest -q"
          onInput={event => set({ testCommand: event.currentTarget.value })}
        />
      </Field>
      <Field label={trans.__('What shall be done')} error={refused.of('title')}>
        <input
          class="jp-rootbound-Input"
          value={form.title}
          onInput={event => set({ title: event.currentTarget.value })}
        />
      </Field>
      <Field
        label={trans.__('More about it (may be empty)')}
        error={refused.of('description')}
      >
        <textarea
          class="jp-rootbound-Input"
          rows={3}
          value={form.description}
          onInput={event => set({ description: event.currentTarget.value })}
        />
      </Field>
      <p class="jp-rootbound-Muted">
        {trans.__(
          'Starting grants the folder for writing. The agent works on a branch of its own beside it; nothing is merged until you approve.'
        )}
      </p>
      <StepProblem
        store={store}
        part="first"
        problem={refused.rest}
        onRetry={() => void begin()}
      />
      <button
        type="submit"
        class="jp-rootbound-Button jp-mod-primary"
        disabled={!complete || step !== null}
      >
        {step === null ? trans.__('Start') : stepText(step, trans)}
      </button>
    </form>
  );
}

function stepText(step: string, trans: Trans): string {
  switch (step) {
    case 'grant':
      return trans.__('Granting the folder…');
    case 'agents':
      return trans.__('Making the agents…');
    case 'test':
      return trans.__('Asking the models…');
    case 'project':
      return trans.__('Making the project…');
    case 'task':
      return trans.__('Making the task…');
    default:
      return trans.__('Starting…');
  }
}
