import { type ReadonlySignal, type Signal, signal } from '@preact/signals';

import { type Trans, catalogueTrans, pageLanguage, plainTrans } from '../model/trans';
import type { WidgetModel } from '../source/comm';
import { ModelSource } from '../source/modelsource';
import type { Dispose } from '../source/source';
import { coloursAround, watchColours } from './theme';

/** Lumino, below JupyterLab, passes over keys of elements with this. */
const SUPPRESS = 'data-lm-suppress-shortcuts';

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
      const stopKeys = keepKeys(host);
      el.classList.add('jp-rootbound-Cell');
      el.append(host);
      const source = new ModelSource(model);
      const trans = signal<Trans>(plainTrans);
      const stopSpeaking = speak(model, source, trans);
      const unmount = fill(host, source, { trans }, model);
      return () => {
        model.off('change:theme', applyTheme);
        stopWatching();
        stopKeys();
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

/**
 * Keep a notebook's keys of one stroke from acting on its cells while a view has the focus.
 *
 * JupyterLab hears a key before the view does: its D twice would delete the cell of a chosen card,
 * and Enter on a button begin to edit. Keys with Ctrl or Cmd, such as saving, stay the notebook's,
 * and so does Shift Enter.
 */
function keepKeys(host: HTMLElement): Dispose {
  const page = host.ownerDocument.defaultView;
  const decide = (event: KeyboardEvent): void => {
    const target = event.composedPath()[0];
    if (!(target instanceof Element) || !host.contains(target)) {
      return;
    }
    // On what has the focus itself: JupyterLab's shortcuts are for that, and it looks there first.
    if (event.ctrlKey || event.metaKey || (event.shiftKey && event.key === 'Enter')) {
      target.removeAttribute(SUPPRESS);
    } else {
      target.setAttribute(SUPPRESS, 'true');
    }
  };
  // On the window and going down, which is before JupyterLab's listener on the document.
  page?.addEventListener('keydown', decide, true);
  return () => page?.removeEventListener('keydown', decide, true);
}
