import { type ComponentChild, render } from 'preact';

import { TransContext } from './components/context';
import { type Trans, plainTrans } from './model/trans';
import type { Dispose } from './source/source';

export interface MountOptions {
  trans?: Trans;
}

/** Fill a host element with a view; returns the way to empty it again. */
export function mount(
  host: HTMLElement,
  view: ComponentChild,
  options: MountOptions,
  dispose: Dispose
): Dispose {
  render(
    <TransContext.Provider value={options.trans ?? plainTrans}>{view}</TransContext.Provider>,
    host
  );
  return () => {
    render(null, host);
    dispose();
  };
}
