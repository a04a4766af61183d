import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { asProblem } from '../model/problem';
import type {
  LocalAccessReport,
  ServiceReport,
  StackReport,
  StackStatus,
  WritableRoot
} from '../model/types';
import type { Source } from '../source/source';
import type { Loaded } from '../stores/loaded';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';

interface StackProps {
  store: Loaded<StackStatus>;
  source: Source;
}

export function Stack({ store, source }: StackProps): JSX.Element {
  const trans = useTrans();
  const status = store.value.value;
  const problem = store.problem.value;
  const live = source.live.value;
  const start = async (): Promise<void> => {
    try {
      await source.startStack();
      await store.load();
    } catch (reason) {
      store.problem.value = asProblem(reason);
    }
  };
  const withdraw = async (root: WritableRoot): Promise<void> => {
    try {
      await source.withdrawRoot(root.id);
      await store.load();
    } catch (reason) {
      store.problem.value = asProblem(reason);
    }
  };
  return (
    <section class="jp-rootbound jp-rootbound-Stack" aria-label={trans.__('Services')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Services')}</strong>
        {!live && <SnapshotLabel />}
        <span class="jp-rootbound-Spacer" />
        {live && (
          <Button label={trans.__('Read again')} onClick={() => void store.load()}>
            ↻
          </Button>
        )}
      </header>
      {problem && <ProblemBanner problem={problem} onRetry={() => void store.load()} />}
      {status?.stack && <Services stack={status.stack} onStart={() => void start()} />}
      {status?.local_access && (
        <LocalAccess
          report={status.local_access}
          onWithdraw={live ? root => void withdraw(root) : undefined}
        />
      )}
      {!status && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
    </section>
  );
}

interface ServicesProps {
  stack: StackReport;
  onStart(): void;
}

function Services({ stack, onStart }: ServicesProps): JSX.Element {
  const trans = useTrans();
  const services = Object.entries(stack.services ?? {});
  const isDown = stack.state === 'stopped' || stack.state === 'failed';
  return (
    <>
      {stack.message && stack.state !== 'ready' && (
        <p class="jp-rootbound-Muted">{stack.message}</p>
      )}
      {isDown && (
        <p>
          <Button kind="primary" onClick={onStart}>
            {trans.__('Start the services')}
          </Button>
        </p>
      )}
      <ul class="jp-rootbound-Services" aria-label={trans.__('Services')}>
        {services.map(([name, report]) => (
          <Service
            key={name}
            name={name}
            service={typeof report === 'string' ? { state: report } : report}
          />
        ))}
      </ul>
    </>
  );
}

function Service({ name, service }: { name: string; service: ServiceReport }): JSX.Element {
  const about = service.detail ?? service.message ?? service.address ?? '';
  return (
    <li class="jp-rootbound-Service" data-state={service.state}>
      <span class="jp-rootbound-Service-light" aria-hidden="true" />
      <span class="jp-rootbound-Service-name">{name}</span>
      <span>{service.state}</span>
      <span class="jp-rootbound-Muted" title={about}>
        {about}
      </span>
    </li>
  );
}

interface LocalAccessProps {
  report: LocalAccessReport;
  onWithdraw: ((root: WritableRoot) => void) | undefined;
}

function LocalAccess({ report, onWithdraw }: LocalAccessProps): JSX.Element {
  const trans = useTrans();
  const { lda, roots } = report;
  const sandbox = lda?.sandbox;
  return (
    <>
      <h4 class="jp-rootbound-Heading">{trans.__('Confinement of agents')}</h4>
      {!lda?.reachable && (
        <p class="jp-rootbound-Failure">
          {trans.__('The local agent does not answer; attempts wait until it does.')}
        </p>
      )}
      {sandbox?.tier && (
        <p>
          <span class="jp-rootbound-Tier" data-tier={sandbox.tier}>
            {trans.__('Tier %1', sandbox.tier)}
          </span>
          {(sandbox.missing ?? []).length === 0 && (
            <span class="jp-rootbound-Muted"> {trans.__('Nothing is missing.')}</span>
          )}
        </p>
      )}
      {(sandbox?.missing ?? []).length > 0 && (
        <>
          <p>{trans.__('What is missing:')}</p>
          <ul class="jp-rootbound-Missing">
            {sandbox?.missing?.map(sentence => <li key={sentence}>{sentence}</li>)}
          </ul>
        </>
      )}
      <h4 class="jp-rootbound-Heading">{trans.__('Folders granted for writing')}</h4>
      {(roots ?? []).length === 0 ? (
        <p class="jp-rootbound-Muted">{trans.__('None; agents can write nowhere.')}</p>
      ) : (
        <ul class="jp-rootbound-Missing">
          {roots?.map(root => (
            <Root key={root.id} root={root} onWithdraw={onWithdraw} />
          ))}
        </ul>
      )}
    </>
  );
}

interface RootProps {
  root: WritableRoot;
  onWithdraw: ((root: WritableRoot) => void) | undefined;
}

/** A granted folder, and the way to take it back, which is asked twice: it may end runs. */
function Root({ root, onWithdraw }: RootProps): JSX.Element {
  const trans = useTrans();
  const [asking, setAsking] = useState(false);
  return (
    <li class="jp-rootbound-Root">
      <code>{root.canonical_path}</code>
      {!root.is_enabled && (
        <span class="jp-rootbound-Muted"> {trans.__('(switched off)')}</span>
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
          <Button kind="danger" onClick={() => onWithdraw(root)}>
            {trans.__('Yes, withdraw')}
          </Button>{' '}
          <Button onClick={() => setAsking(false)}>{trans.__('Back')}</Button>
        </span>
      )}
    </li>
  );
}
