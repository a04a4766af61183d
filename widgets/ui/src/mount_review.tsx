/** The review of an attempt: what it changes, and what a person says of that. */
import { Review, type ReviewHooks } from './components/review';
import { type MountOptions, mount } from './mount_base';
import type { Dispose } from './source/source';
import type { Work } from './source/work';
import { ReviewStore } from './stores/review';

/** Changes, evidence, comments and decision. */
export function mountReview(
  host: HTMLElement,
  work: Work,
  attemptId: string,
  options: MountOptions & ReviewHooks = {}
): Dispose {
  const store = new ReviewStore(work, attemptId);
  void store.load();
  return mount(
    host,
    <Review store={store} openAttempt={options.openAttempt} live={options.live} />,
    options,
    () => store.dispose()
  );
}
