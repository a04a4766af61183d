import { type ReadonlySignal, type Signal, signal } from '@preact/signals';

import { type Trans, catalogueTrans, pageLanguage, plainTrans } from '../model/trans';
import type { WidgetModel } from '../source/comm';
import { ModelSource } from '../source/modelsource';
import type { Dispose } from '../source/source';
import { coloursAround, watchColours } from './theme';

export interface RenderArguments {
  model: WidgetModel;
  el: HTMLElement;
}

/** The default export of an anywidget module. */
export interface Widget {
  render(args: RenderArguments): Dispose;
}

/**
 * Wrap a view as a notebook widget.
 *
 * @param kind Class suffix of the view's frame, for its size in a cell.
 * @param fill Mounts the view.
 */
export function widget(
  kind: string,
  fill: (
    host: HTMLElement,
    source: ModelSource,
    options: { trans: ReadonlySignal<Trans> },
    model: WidgetModel
  ) => Dispose
): Widget {
  return {
    render({ model, el }) {
      const host = document.createElement('div');
      host.className = `jp-rootbound-Widget jp-mod-${kind}`;
      const applyTheme = (): void => {
        const theme = String(model.get('theme') ?? 'auto');
        // Of the element around, because the view's own text already has our colour.
        host.dataset['theme'] = theme === 'auto' ? coloursAround(el) : theme;
      };
      applyTheme();
      model.on('change:theme', applyTheme);
      const stopWatching = watchColours(el, applyTheme);
      el.classList.add('jp-rootbound-Cell');
      el.append(host);
      const source = new ModelSource(model);
      const trans = signal<Trans>(plainTrans);
      const stopSpeaking = speak(model, source, trans);
      const unmount = fill(host, source, { trans }, model);
      return () => {
        model.off('change:theme', applyTheme);
        stopWatching();
        stopSpeaking();
        unmount();
        source.dispose();
        host.remove();
      };
    }
  };
}

/** Keep a view in the language that its `locale` names, or the page's; returns the way to stop. */
function speak(model: WidgetModel, source: ModelSource, trans: Signal<Trans>): Dispose {
  let asked = 0;
  const ask = async (): Promise<void> => {
    const locale = String(model.get('locale') ?? 'auto');
    const mine = ++asked;
    // Without a kernel, or without a language pack in it, the view stays English.
    const found = await source
      .catalogue(locale === 'auto' ? pageLanguage() : locale)
      .catch(() => null);
    if (mine === asked) {
      trans.value = found ? catalogueTrans(found) : plainTrans;
    }
  };
  const again = (): void => void ask();
  again();
  model.on('change:locale', again);
  return () => {
    asked = -1;
    model.off('change:locale', again);
  };
}
