import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { StackStatus, WritableRoot } from '../model/types';
import type { Act, Loaded } from '../stores/loaded';
import type { Machine } from '../source/machine';
import { Confinement } from './confinement';
import { Button, ProblemBanner } from './common';
import { useTrans } from './context';
import { useDraft } from './draft';
import { ChooseFolder, FieldError, invalid, refusal, useElementId } from './form';

export interface RootHooks {
  /** Let the user choose a folder; its path on this machine, or null. */
  pickFolder?: () => Promise<string | null>;
}

interface RootsProps extends RootHooks {
  store: Loaded<StackStatus>;
  machine: Machine;
}

/** The folders that agents may write, and what stands between agents and all others. */
export function Roots({ store, machine, pickFolder }: RootsProps): JSX.Element {
  const trans = useTrans();
  const access = store.value.value?.local_access;
  const refused = refusal(store.problem.value, ['path']);
  const problem = refused.rest;
  const act: Act = what => store.act(what);
  const lda = access?.lda;
  const places = lda?.protected ?? [];
  return (
    <section class="jp-rootbound jp-rootbound-Roots" aria-label={trans.__('Roots and safety')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Roots and safety')}</strong>
        <span class="jp-rootbound-Spacer" />
        <Button label={trans.__('Read again')} onClick={() => void store.load()}>
          ↻
        </Button>
      </header>
      {problem && (
        <ProblemBanner
          problem={problem}
          onRetry={() => void store.load()}
          onStart={() => void act(() => machine.startStack())}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {!access && !store.problem.value && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {access && (
        <div class="jp-rootbound-Page">
          <h3 class="jp-rootbound-Heading">{trans.__('Folders that agents may write')}</h3>
          <RootList roots={access.roots ?? []} machine={machine} act={act} />
          <AddRoot
            machine={machine}
            act={act}
            pickFolder={pickFolder}
            error={refused.of('path')}
          />
          <h3 class="jp-rootbound-Heading">{trans.__('What this machine enforces')}</h3>
          <Health store={store} />
          <Confinement lda={lda} />
          <h3 class="jp-rootbound-Heading">{trans.__('Places that no grant opens')}</h3>
          <p class="jp-rootbound-Muted">
            {trans.__(
              'Neither readable nor writable to an agent, whatever is granted around them. Below a root, .git stays unwritable too.'
            )}
          </p>
          {places.length > 0 && (
            <ul class="jp-rootbound-Paths">
              {places.map(path => (
                <li key={path}>
                  <code>{path}</code>
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
    </section>
  );
}

/** The local agent's own health, as it says now. */
function Health({ store }: { store: Loaded<StackStatus> }): JSX.Element {
  const trans = useTrans();
  const lda = store.value.value?.local_access?.lda;
  return (
    <p class="jp-rootbound-Health" role="status">
      <span
        class="jp-rootbound-Link"
        data-link={lda?.reachable ? 'live' : 'lost'}
        aria-hidden="true"
      />{' '}
      {lda?.reachable
        ? trans.__(
            'Local agent %1. At work: %2. Reports on their way: %3.',
            lda.version ?? '',
            String(lda.live_runs ?? 0),
            String(lda.outbox_depth ?? 0)
          )
        : trans.__('The local agent does not answer.')}
    </p>
  );
}

interface ListProps {
  roots: readonly WritableRoot[];
  machine: Machine;
  act: Act;
}

function RootList({ roots, machine, act }: ListProps): JSX.Element {
  const trans = useTrans();
  if (roots.length === 0) {
    return <p class="jp-rootbound-Muted">{trans.__('None; agents can write nowhere.')}</p>;
  }
  return (
    <ul class="jp-rootbound-RootList" role="list" aria-label={trans.__('Roots')}>
      {roots.map(root => (
        <Root
          key={root.id}
          root={root}
          onEnable={on => void act(() => machine.enableRoot(root.id, on))}
          onWithdraw={() => void act(() => machine.withdrawRoot(root.id))}
        />
      ))}
    </ul>
  );
}

interface RootProps {
  root: WritableRoot;
  /** Switches the root; without it, it cannot be switched here. */
  onEnable?: ((on: boolean) => void) | undefined;
  onWithdraw: (() => void) | undefined;
}

/** A granted folder, and the way to take it back, which is asked twice: it may end runs. */
export function Root({ root, onEnable, onWithdraw }: RootProps): JSX.Element {
  const trans = useTrans();
  const [asking, setAsking] = useState(false);
  const typed = root.path !== root.canonical_path ? root.path : null;
  return (
    <li class="jp-rootbound-Root" data-enabled={root.is_enabled}>
      {onEnable && (
        <input
          type="checkbox"
          checked={root.is_enabled}
          aria-label={trans.__('%1 is switched on', root.canonical_path)}
          onChange={event => onEnable(event.currentTarget.checked)}
        />
      )}
      <code>{root.canonical_path}</code>
      {typed && <span class="jp-rootbound-Muted">{trans.__('granted as %1', typed)}</span>}
      {!root.is_enabled && (
        <span class="jp-rootbound-Muted">{trans.__('(switched off)')}</span>
      )}
      {onWithdraw && !asking && (
        <Button
          label={trans.__('Withdraw %1', root.canonical_path)}
          onClick={() => setAsking(true)}
        >
          {trans.__('Withdraw…')}
        </Button>
      )}
      {onWithdraw && asking && (
        <span role="group" aria-label={trans.__('Confirm')}>
          <span class="jp-rootbound-Muted">
            {trans.__('Commands that use it are killed, and runs of a project in it end.')}
          </span>{' '}
          <Button kind="danger" onClick={onWithdraw}>
            {trans.__('Yes, withdraw')}
          </Button>{' '}
          <Button onClick={() => setAsking(false)}>{trans.__('Back')}</Button>
        </span>
      )}
    </li>
  );
}

interface AddProps extends RootHooks {
  /** Why the folder was not granted. */
  error: string | undefined;
  machine: Machine;
  act: Act;
}

/** Grant a folder, by name or by Lab's own dialog; a refusal leaves what was typed. */
function AddRoot({ machine, act, pickFolder, error }: AddProps): JSX.Element {
  const trans = useTrans();
  const draft = useDraft('grant', '');
  const id = useElementId();
  const path = draft.value;
  const grant = async (wanted: string): Promise<void> => {
    if (await act(() => machine.grantRoot(wanted))) {
      draft.clear();
    }
  };
  return (
    <form
      class="jp-rootbound-AddRoot"
      onSubmit={event => {
        event.preventDefault();
        if (path.trim()) {
          void grant(path.trim());
        }
      }}
    >
      <input
        class="jp-rootbound-Input"
        aria-label={trans.__('Folder to grant')}
        {...invalid(id, error)}
        placeholder={trans.__('/absolute/path/of/a/folder')}
        value={path}
        onInput={event => draft.set(event.currentTarget.value)}
      />
      <ChooseFolder pickFolder={pickFolder} onChosen={draft.set} />
      <button
        type="submit"
        class="jp-rootbound-Button jp-mod-primary"
        disabled={path.trim() === ''}
      >
        {trans.__('Grant for writing')}
      </button>
      <FieldError id={id} error={error} />
    </form>
  );
}
