/** The views that act on the machine itself; only panels of a Jupyter server have them. */
import { COST_DAYS, Cost, type CostChoice } from './components/cost';
import { Guide, type GuideHooks } from './components/guide';
import { type RootHooks, Roots } from './components/roots';
import type { CostList, CostQuery } from './model/machine';
import { type MountOptions, STACK_SECONDS, mount } from './mount';
import type { Machine } from './source/machine';
import type { Dispose, Source } from './source/source';
import { GuideStore } from './stores/guide';
import { Loaded } from './stores/loaded';

const DAY_MS = 86_400_000;

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

/** Tokens and money of all projects, or of one. */
export function mountCost(
  host: HTMLElement,
  machine: Machine,
  projectId: string | null,
  options: MountOptions = {}
): Dispose {
  let days = COST_DAYS;
  const wanted = (): CostQuery => {
    const since = new Date(Date.now() - (days - 1) * DAY_MS);
    return { project: projectId ?? undefined, since: localDay(since) };
  };
  const store = new Loaded<CostList>(() => machine.costs(wanted()));
  const choice: CostChoice = { group: projectId === null ? 'project' : 'role', measure: 'auto' };
  void store.load();
  const view = (
    <Cost
      store={store}
      live={true}
      choice={choice}
      onDays={chosen => {
        days = chosen;
        void store.load();
      }}
    />
  );
  return mount(host, view, options, () => store.dispose());
}

function localDay(date: Date): string {
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** The first-run guide. */
export function mountGuide(
  host: HTMLElement,
  machine: Machine,
  options: MountOptions & GuideHooks = {}
): Dispose {
  const store = new GuideStore(machine);
  void store.load();
  const { pickFolder, runInTerminal, openAttempt, openBoard } = options;
  return mount(
    host,
    <Guide
      store={store}
      pickFolder={pickFolder}
      runInTerminal={runInTerminal}
      openAttempt={openAttempt}
      openBoard={openBoard}
    />,
    options,
    () => store.dispose()
  );
}
