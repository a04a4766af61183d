/**
 * The views, as functions that fill a host element and return the way to empty it again.
 *
 * No custom elements: their registry is global to the page, so that two bundles would collide.
 */
import { effect } from '@preact/signals';

import { Audit } from './components/audit';
import { Board, type BoardHooks } from './components/board';
import { DiffPanel } from './components/diff';
import { Stack, type StackHooks } from './components/stack';
import { Stream } from './components/stream';
import type { StreamHooks } from './components/streamtools';
import type { AuditQuery } from './model/types';
import { type MountOptions, mount } from './mount_base';
import type { Machine } from './source/machine';
import type { Dispose, Source } from './source/source';
import { AccessStore } from './stores/access';
import { AuditStore } from './stores/audit';
import { AuditFactsStore } from './stores/audit_facts';
import { BoardStore } from './stores/board';
import { Loaded } from './stores/loaded';
import { StreamStore } from './stores/stream';

export const STACK_SECONDS = 5;

export interface BoardOptions extends MountOptions, BoardHooks {
  /** The project to show first, if it is there. */
  projectId?: string;
}

/** The board of one project, with a picker when there are several. */
export function mountTaskBoard(
  host: HTMLElement,
  source: Source,
  options: BoardOptions = {}
): Dispose {
  const store = new BoardStore(source, options.projectId ?? null);
  const { openAttempt, openAudit, openGuide, work, pickFolder, isOfOneProject } = options;
  void store.open();
  return mount(
    host,
    <Board
      store={store}
      source={source}
      openAttempt={openAttempt}
      openAudit={openAudit}
      openGuide={openGuide}
      work={work}
      pickFolder={pickFolder}
      isOfOneProject={isOfOneProject}
    />,
    options,
    () => store.dispose()
  );
}

/** The events of one attempt, live. */
export function mountAttemptStream(
  host: HTMLElement,
  source: Source,
  attemptId: string,
  options: MountOptions & StreamHooks & { onStore?: (store: StreamStore) => void } = {}
): Dispose {
  const store = new StreamStore(source, attemptId);
  const access = new AccessStore(source, { attempt: attemptId });
  void store.open();
  void access.open();
  options.onStore?.(store);
  const stop = store.accessNews.subscribe(news => {
    if (news > 0) {
      void access.reload();
    }
  });
  const { work, openAttempt, named } = options;
  const stopNaming = effect(() => {
    if (store.attempt.value) {
      named?.(store.attempt.value);
    }
  });
  const view = (
    <Stream store={store} access={access} source={source} work={work} openAttempt={openAttempt} />
  );
  return mount(host, view, options, () => {
    stop();
    stopNaming();
    access.dispose();
    store.dispose();
  });
}

/** The audited file operations of an attempt or a project. */
export function mountAuditTable(
  host: HTMLElement,
  source: Source,
  scope: AuditQuery,
  options: MountOptions = {}
): Dispose {
  const store = new AuditStore(source, scope);
  const facts = new AuditFactsStore(source.auditFacts, scope, store.filter);
  // Whatever the filter or the source says anew concerns every view of it.
  const stopFacts = store.filter.subscribe(() => void facts.reload());
  const access = new AccessStore(source, { attempt: scope.attempt, project: scope.project });
  const stop = source.onChange(() => void store.renew());
  const stopWatching = source.watchAccess(scope, denied => {
    if (denied) {
      void store.renew();
      void facts.reload();
    }
  });
  void store.open();
  void access.open();
  const view = <Audit store={store} facts={facts} access={access} source={source} />;
  return mount(host, view, options, () => {
    stop();
    stopFacts();
    stopWatching();
    access.dispose();
    facts.dispose();
    store.dispose();
  });
}

/** The files an attempt changed. */
export function mountDiffView(
  host: HTMLElement,
  source: Source,
  attemptId: string,
  options: MountOptions = {}
): Dispose {
  const store = new Loaded(() => source.getDiff(attemptId));
  const stop = source.onChange(() => void store.load());
  void store.load();
  return mount(host, <DiffPanel store={store} source={source} />, options, () => {
    stop();
    store.dispose();
  });
}

export interface StackOptions extends MountOptions, StackHooks {
  /** What acts on the services; without it the view only shows them. */
  machine?: Machine;
}

/** Services, confinement and granted folders, read again every few seconds. */
export function mountStackStatus(
  host: HTMLElement,
  source: Source,
  options: StackOptions = {}
): Dispose {
  const store = new Loaded(() => source.getStack(), STACK_SECONDS);
  const stop = source.onChange(() => void store.load());
  void store.load();
  const { machine = null, openRoots, openGuide } = options;
  return mount(
    host,
    <Stack
      store={store}
      source={source}
      machine={machine}
      openRoots={openRoots}
      openGuide={openGuide}
    />,
    options,
    () => {
      stop();
      store.dispose();
    }
  );
}
