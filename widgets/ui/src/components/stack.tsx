import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { asProblem } from '../model/problem';
import type { Trans } from '../model/trans';
import { bytes } from '../model/format';
import type { DiskUse } from '../model/machine';
import type { ServiceReport, StackReport, StackStatus } from '../model/types';
import type { Machine } from '../source/machine';
import type { Source } from '../source/source';
import type { Act, Loaded } from '../stores/loaded';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { Confinement } from './confinement';
import { useTrans } from './context';
import { sentence } from './labels';
import { Root } from './roots';

const LOG_LINES = 200;
const NOT_OURS: ReadonlySet<string> = new Set(['backend']);

export interface StackHooks {
  openRoots?: () => void;
  openGuide?: () => void;
}

interface StackProps extends StackHooks {
  store: Loaded<StackStatus>;
  source: Source;
  /** What acts on the services; a notebook has none. */
  machine: Machine | null;
}

/** The services: their state, versions, addresses and logs, and the disk they take. */
export function Stack({ store, source, machine, openRoots, openGuide }: StackProps): JSX.Element {
  const trans = useTrans();
  const status = store.value.value;
  const problem = store.problem.value;
  const live = source.live.value;
  const act: Act = what => store.act(what);
  return (
    <section class="jp-rootbound jp-rootbound-Stack" aria-label={trans.__('Services')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Services')}</strong>
        {!live && <SnapshotLabel />}
        <span class="jp-rootbound-Spacer" />
        {openGuide && <Button onClick={openGuide}>{trans.__('Getting started')}</Button>}
        {openRoots && <Button onClick={openRoots}>{trans.__('Roots and safety')}</Button>}
        {live && (
          <Button label={trans.__('Read again')} onClick={() => void store.load()}>
            ↻
          </Button>
        )}
      </header>
      {problem && (
        <ProblemBanner
          problem={problem}
          onRetry={() => void store.load()}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {!status && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      <div class="jp-rootbound-Page">
        {status?.stack && (
          <Services
            stack={status.stack}
            machine={live ? machine : null}
            act={act}
            onStart={() => void act(() => source.startStack())}
          />
        )}
        {status && machine && live && <Disk machine={machine} asOf={status} />}
        {status?.local_access && (
          <>
            <h3 class="jp-rootbound-Heading">{trans.__('Confinement of agents')}</h3>
            <Confinement lda={status.local_access.lda} />
            <h3 class="jp-rootbound-Heading">{trans.__('Folders granted for writing')}</h3>
            {(status.local_access.roots ?? []).length === 0 ? (
              <p class="jp-rootbound-Muted">{trans.__('None; agents can write nowhere.')}</p>
            ) : (
              <ul class="jp-rootbound-RootList" role="list">
                {status.local_access.roots?.map(root => (
                  <Root
                    key={root.id}
                    root={root}
                    onWithdraw={
                      live ? () => void act(() => source.withdrawRoot(root.id)) : undefined
                    }
                  />
                ))}
              </ul>
            )}
          </>
        )}
      </div>
    </section>
  );
}

/** Whose logs there are, the first to be started first. */
const LOGS = ['guard', 'postgres', 'redis', 'migrate', 'backend', 'worker', 'beat', 'lda'] as const;

interface ServicesProps {
  stack: StackReport;
  machine: Machine | null;
  act: Act;
  onStart(): void;
}

function Services({ stack, machine, act, onStart }: ServicesProps): JSX.Element {
  const trans = useTrans();
  const known = Object.entries(stack.services ?? {});
  // Of services that did not start, what they wrote is what counts.
  const isFailed = stack.state === 'failed' && known.length === 0;
  const services = isFailed ? LOGS.map(name => [name, { state: 'stopped', pid: null }] as const) : known;
  const isDown = stack.state === 'stopped' || stack.state === 'failed';
  const [versions, setVersions] = useState<{ readonly [name: string]: string }>({});
  const ready = stack.state === 'ready';
  useEffect(() => {
    if (ready && machine) {
      // The rows stand without them; while the backend restarts nobody can tell.
      machine.health().then(
        health =>
          setVersions(
            Object.fromEntries(
              Object.entries(health.services).map(([name, one]) => [name, one.detail])
            )
          ),
        () => undefined
      );
    }
  }, [ready]);
  return (
    <>
      {stack.message && (
        <p class={stack.state === 'failed' ? 'jp-rootbound-Failure' : 'jp-rootbound-Muted'}>
          {stack.message}
        </p>
      )}
      {isDown && (
        <p>
          <Button kind="primary" onClick={onStart}>
            {trans.__('Start the services')}
          </Button>
        </p>
      )}
      <ul class="jp-rootbound-Services" role="list" aria-label={trans.__('Services')}>
        {services.map(([name, report]) => (
          <Service
            key={name}
            name={name}
            service={typeof report === 'string' ? { state: report } : report}
            version={versions[name]}
            machine={machine}
            act={act}
          />
        ))}
      </ul>
    </>
  );
}

interface ServiceProps {
  name: string;
  service: ServiceReport;
  version: string | undefined;
  machine: Machine | null;
  act: Act;
}

function Service({ name, service, version, machine, act }: ServiceProps): JSX.Element {
  const trans = useTrans();
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const about = [version ?? service.detail ?? service.message, service.address]
    .filter(Boolean)
    .join(' · ');
  const restart = async (): Promise<void> => {
    setAsking(false);
    setBusy(true);
    await act(() => machine?.restartService(name) ?? Promise.resolve());
    setBusy(false);
  };
  return (
    <li class="jp-rootbound-Service" data-state={busy ? 'starting' : service.state}>
      <div class="jp-rootbound-Service-line">
        <span class="jp-rootbound-Service-light" aria-hidden="true" />
        <span class="jp-rootbound-Service-name">{name}</span>
        <span>{busy ? trans.__('restarting') : service.state}</span>
        <span class="jp-rootbound-Muted jp-rootbound-Service-about" title={about}>
          {about}
        </span>
        {machine && !asking && (
          <span class="jp-rootbound-Service-buttons">
            <Button
              label={trans.__('Log of %1', name)}
              pressed={open}
              onClick={() => setOpen(!open)}
            >
              {trans.__('Log')}
            </Button>
            <Button
              label={trans.__('Restart %1', name)}
              disabled={busy || service.pid === null}
              onClick={() => setAsking(true)}
            >
              {trans.__('Restart')}
            </Button>
          </span>
        )}
        {asking && (
          <span class="jp-rootbound-Service-buttons" role="group" aria-label={trans.__('Confirm')}>
            <Button kind="danger" onClick={() => void restart()}>
              {trans.__('Yes, restart %1', name)}
            </Button>
            <Button onClick={() => setAsking(false)}>{trans.__('Back')}</Button>
          </span>
        )}
      </div>
      {asking && <p class="jp-rootbound-Muted">{consequence(name, trans)}</p>}
      {open && machine && <Log name={name} machine={machine} />}
    </li>
  );
}

/** What a restart means for people who work. */
function consequence(name: string, trans: Trans): string {
  if (name === 'lda') {
    return trans.__('Runs that are at work go on from their journal, or end with LDA_LOST.');
  }
  return NOT_OURS.has(name)
    ? trans.__('Views lose their connection for some seconds and find it again.')
    : trans.__('What waits for it waits some seconds longer; nothing is lost.');
}

function Log({ name, machine }: { name: string; machine: Machine }): JSX.Element {
  const trans = useTrans();
  const [text, setText] = useState<string | null>(null);
  const read = (): void => {
    machine.serviceLog(name, LOG_LINES).then(setText, (reason: unknown) => {
      setText(sentence(asProblem(reason), trans));
    });
  };
  useEffect(read, [name]);
  return (
    <div class="jp-rootbound-Log">
      <pre tabIndex={0} aria-label={trans.__('The end of the log of %1', name)}>
        {text === null ? trans.__('Loading…') : text || trans.__('Nothing was written yet.')}
      </pre>
      <Button label={trans.__('Read the log of %1 again', name)} onClick={read}>
        ↻
      </Button>
    </div>
  );
}

/** What is used and free, read again with the services. */
function Disk({ machine, asOf }: { machine: Machine; asOf: StackStatus }): JSX.Element | null {
  const trans = useTrans();
  const [use, setUse] = useState<DiskUse | null>(null);
  useEffect(() => {
    // Without the backend there is nothing to show here; the services say why.
    machine.diskUse().then(setUse, () => undefined);
  }, [machine, asOf]);
  if (!use) {
    return null;
  }
  const parts = Object.entries(use.disk.parts).sort(([, one], [, other]) => other - one);
  const full = use.projects.filter(project => project.state !== 'ok');
  return (
    <>
      <h3 class="jp-rootbound-Heading">{trans.__('Disk')}</h3>
      <p>
        {trans.__(
          '%1 free of %2.',
          bytes(use.disk.free_bytes),
          bytes(use.disk.total_bytes)
        )}{' '}
        <span class="jp-rootbound-Muted">
          {parts.length > 0
            ? parts.map(([name, size]) => `${name} ${bytes(size)}`).join(', ')
            : trans.__('What is used was not measured yet.')}
        </span>
      </p>
      {full.map(project => (
        <p key={project.id} class="jp-rootbound-Failure">
          {trans.__(
            '%1 takes %2 of the %3 it may; once full, it starts no more attempts.',
            project.name,
            bytes(project.event_bytes + project.file_bytes),
            bytes(project.max_bytes ?? 0)
          )}
        </p>
      ))}
    </>
  );
}
