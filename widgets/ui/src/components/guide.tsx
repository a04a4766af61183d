import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { Trans } from '../model/trans';
import type { FirstAttempt, GuideStore } from '../stores/guide';
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
  const stack = store.stack.value;
  const ready = stack?.state === 'ready';
  const { provider } = store;
  const known = store.keys.value !== null;
  const problem = refusal(store.problem.value, FIELDS).rest;
  return (
    <section class="jp-rootbound jp-rootbound-Guide" aria-label={trans.__('Getting started')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Getting started')}</strong>
        <span class="jp-rootbound-Spacer" />
        {props.openBoard && ready && (
          <Button onClick={props.openBoard}>{trans.__('Task Board')}</Button>
        )}
      </header>
      {problem && (
        <ProblemBanner
          problem={problem}
          onDismiss={() => {
            store.problem.value = null;
          }}
          onStart={() => void store.start()}
        />
      )}
      <ol class="jp-rootbound-Page jp-rootbound-Steps">
        <Step title={trans.__('Services')} done={ready}>
          {ready ? (
            <p>{trans.__('The services run on this machine, and for you alone.')}</p>
          ) : (
            <>
              <p role="status">{stack?.message ?? trans.__('Looking at the services…')}</p>
              {(stack?.state === 'stopped' || stack?.state === 'failed') && (
                <Button kind="primary" onClick={() => void store.start()}>
                  {trans.__('Start the services')}
                </Button>
              )}
            </>
          )}
        </Step>
        {ready && known && (
          <Step title={trans.__('Model')} done={provider !== null}>
            {provider !== null ? (
              <>
                <p>
                  {trans.__(
                    'There is a key for %1. It stays with the local agent, and goes to the vendor’s own address only.',
                    provider
                  )}
                </p>
                <Button disabled={store.step.value !== null} onClick={() => void store.tryAgents()}>
                  {trans.__('Test the agents’ models')}
                </Button>
                <ul class="jp-rootbound-Plain" aria-label={trans.__('What the models answered')}>
                  {[...store.tests.value].map(([agent, test]) => (
                    <li key={agent.id} role="status" data-state={test.ok ? 'passed' : 'failed'}>
                      {agent.name} ({agent.model}): {test.message}
                    </li>
                  ))}
                </ul>
              </>
            ) : (
              <NoKey {...props} />
            )}
          </Step>
        )}
        {ready && known && provider !== null && <First {...props} />}
      </ol>
    </section>
  );
}

interface StepProps {
  title: string;
  done: boolean;
  children: ComponentChildren;
}

function Step({ title, done, children }: StepProps): JSX.Element {
  const trans = useTrans();
  return (
    <li class="jp-rootbound-Step" data-done={done}>
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

/** Without a key: the demo, which needs none, and how to bring one. */
function NoKey({ store, runInTerminal }: GuideProps): JSX.Element {
  const trans = useTrans();
  const [refused, setRefused] = useState(false);
  const python = store.stack.value?.python ?? 'python';
  const command = `'${python}' -m rootbound.cli demo`;
  return (
    <>
      <p>
        {trans.__(
          'No key of a model is set. The demo needs none: a recorded model repairs a real project, and everything else is real — the plan, the agents’ commands, the confinement, the tests and the merge. It takes some minutes.'
        )}
      </p>
      <p>
        {runInTerminal && (
          <Button
            kind="primary"
            onClick={() => void runInTerminal(command).then(done => setRefused(!done))}
          >
            {trans.__('Run the demo')}
          </Button>
        )}
      </p>
      {(refused || !runInTerminal) && (
        <>
          <p>{trans.__('This server has no terminals; type this into one of your own:')}</p>
          <pre class="jp-rootbound-Code">{command}</pre>
        </>
      )}
      <p>
        {trans.__('With a key of yours, set it where the services start, then start them again:')}
      </p>
      <pre class="jp-rootbound-Code jp-mod-snippet">
        {'export GEMINI_API_KEY=…   # or GLM_API_KEY\nrootbound down && rootbound up'}
      </pre>
      <Button onClick={() => void store.load()}>{trans.__('Look again')}</Button>
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
    <Step title={trans.__('Your first attempt')} done={false}>
      <form
        ref={host}
        class="jp-rootbound-Form"
        onSubmit={event => {
          event.preventDefault();
          void begin();
        }}
      >
        <Field
          label={trans.__('Folder of a git repository')}
          error={refused.of('path', 'repo_path')}
        >
          <input
            class="jp-rootbound-Input"
            value={form.repoPath}
            placeholder={trans.__('/absolute/path')}
            onInput={event => set({ repoPath: event.currentTarget.value })}
          />
        </Field>
        <ChooseFolder pickFolder={pickFolder} onChosen={repoPath => set({ repoPath })} />
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
        <button
          type="submit"
          class="jp-rootbound-Button jp-mod-primary"
          disabled={!complete || step !== null}
        >
          {step === null ? trans.__('Start') : stepText(step, trans)}
        </button>
      </form>
    </Step>
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
