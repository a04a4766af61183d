/** The views that act on the machine itself; only panels of a Jupyter server have them. */
import { Guide, type GuideHooks } from './components/guide';
import { type RootHooks, Roots } from './components/roots';
import { STACK_SECONDS } from './mount';
import { type MountOptions, mount } from './mount_base';
import type { Machine } from './source/machine';
import type { Dispose, Source } from './source/source';
import { GuideStore } from './stores/guide';
import { Loaded } from './stores/loaded';

/** Granted folders, what this machine enforces, and what no grant opens. */
export function mountRoots(
  host: HTMLElement,
  source: Source,
  machine: Machine,
  options: MountOptions & RootHooks = {}
): Dispose {
  const store = new Loaded(() => source.getStack(), STACK_SECONDS);
  void store.load();
  const view = <Roots store={store} machine={machine} pickFolder={options.pickFolder} />;
  return mount(host, view, options, () => store.dispose());
}

/** The first-run guide. */
export function mountGuide(
  host: HTMLElement,
  machine: Machine,
  options: MountOptions & GuideHooks = {}
): Dispose {
  const store = new GuideStore(machine);
  void store.load();
  const { pickFolder, runInTerminal, openAttempt, openBoard, openStatus } = options;
  return mount(
    host,
    <Guide
      store={store}
      pickFolder={pickFolder}
      runInTerminal={runInTerminal}
      openAttempt={openAttempt}
      openBoard={openBoard}
      openStatus={openStatus}
    />,
    options,
    () => store.dispose()
  );
}
