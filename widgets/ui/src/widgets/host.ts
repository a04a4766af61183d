import type { WidgetModel } from '../source/comm';
import { ModelSource } from '../source/modelsource';
import type { Dispose } from '../source/source';

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
  fill: (host: HTMLElement, source: ModelSource, model: WidgetModel) => Dispose
): Widget {
  return {
    render({ model, el }) {
      const host = document.createElement('div');
      host.className = `jp-rootbound-Widget jp-mod-${kind}`;
      const applyTheme = (): void => {
        host.dataset['theme'] = String(model.get('theme') ?? 'auto');
      };
      applyTheme();
      model.on('change:theme', applyTheme);
      el.append(host);
      const source = new ModelSource(model);
      const unmount = fill(host, source, model);
      return () => {
        model.off('change:theme', applyTheme);
        unmount();
        source.dispose();
        host.remove();
      };
    }
  };
}
