import type { ReadonlySignal } from '@preact/signals';
import { type ComponentChild, type JSX, render } from 'preact';

import { TransContext } from './components/context';
import { type Trans, plainTrans } from './model/trans';
import type { Dispose } from './source/source';

export interface MountOptions {
  /** What translates; it may come later, or change. */
  trans?: Trans | ReadonlySignal<Trans>;
}

/** Fill a host element with a view; returns the way to empty it again. */
export function mount(
  host: HTMLElement,
  view: ComponentChild,
  options: MountOptions,
  dispose: Dispose
): Dispose {
  const { trans = plainTrans } = options;
  const Translated = (): JSX.Element => (
    <TransContext.Provider value={'value' in trans ? trans.value : trans}>
      {view}
    </TransContext.Provider>
  );
  render(<Translated />, host);
  return () => {
    render(null, host);
    dispose();
  };
}
