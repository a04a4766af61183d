import '../../style/base.css';
import '../../style/work.css';
import '../../style/access.css';
import '../../style/stream.css';

import { effect } from '@preact/signals';

import { mountAttemptStream } from '../mount';
import type { WidgetModel } from '../source/comm';
import type { Dispose } from '../source/source';
import { HttpWork } from '../source/work';
import type { StreamStore } from '../stores/stream';
import { KINDS } from '../stores/transcript';
import { widget } from './host';

export default widget('stream', (host, source, options, model) => {
  let unbind: Dispose = () => undefined;
  const unmount = mountAttemptStream(host, source, source.state.attempt?.id ?? '', {
    ...options,
    work: new HttpWork(source.transport),
    onStore: store => {
      unbind = bindFilter(store, model);
    }
  });
  return () => {
    unbind();
    unmount();
  };
});

/** Keep what the reader looks for, and among what, the same in the view and in Python. */
function bindFilter(store: StreamStore, model: WidgetModel): Dispose {
  const read = (): void => {
    store.kind.value = KINDS.find(kind => kind === model.get('show')) ?? 'all';
    const words = String(model.get('search') ?? '');
    if (words !== store.search.peek()) {
      store.look(words);
    }
  };
  read();
  const stopWriting = effect(() => {
    const show = store.kind.value;
    const search = store.search.value;
    if (show !== model.get('show') || search !== model.get('search')) {
      model.set?.('show', show);
      model.set?.('search', search);
      model.save_changes?.();
    }
  });
  model.on('change:show', read);
  model.on('change:search', read);
  return () => {
    stopWriting();
    model.off('change:show', read);
    model.off('change:search', read);
  };
}
