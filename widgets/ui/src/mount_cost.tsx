/** The plot of tokens and money, apart from the other views so that its widget stays small. */
import type { ReadonlySignal } from '@preact/signals';
import type { JSX } from 'preact';

import { COST_DAYS, Cost, type CostChoice } from './components/cost';
import type { CostList } from './model/machine';
import { type MountOptions, mount } from './mount_base';
import type { Dispose } from './source/source';
import { Loaded } from './stores/loaded';

export interface CostOptions extends MountOptions {
  live: ReadonlySignal<boolean>;
  choice: ReadonlySignal<CostChoice>;
  onChoice?: (choice: CostChoice) => void;
  /** Whether the reader may ask for another span. */
  hasSpan?: boolean;
  /** Hear that there is something new. */
  onChange?: (callback: () => void) => Dispose;
}

/**
 * Tokens and money by project, role and day.
 *
 * @param fetch Gets the rows of so many days.
 */
export function mountCost(
  host: HTMLElement,
  fetch: (days: number) => Promise<CostList>,
  options: CostOptions
): Dispose {
  let days = COST_DAYS;
  const store = new Loaded<CostList>(() => fetch(days));
  const onDays = options.hasSpan
    ? (chosen: number) => {
        days = chosen;
        void store.load();
      }
    : undefined;
  const View = (): JSX.Element => (
    <Cost
      store={store}
      live={options.live.value}
      choice={options.choice.value}
      onChoice={options.onChoice}
      onDays={onDays}
    />
  );
  const stop = options.onChange?.(() => void store.load());
  void store.load();
  return mount(host, <View />, options, () => {
    stop?.();
    store.dispose();
  });
}
