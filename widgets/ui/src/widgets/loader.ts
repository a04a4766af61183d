/**
 * What every widget carries: it fetches the view's script from the model that holds it once.
 *
 * A page keeps each script under its digest, so that ten views of a kind are one module.
 */
interface Bundle {
  script: string;
  style: string;
  digest: string;
}

interface Model {
  get(name: string): unknown;
  send(content: unknown): void;
  on(name: string, callback: (content?: unknown) => void): void;
  off(name: string, callback: (content?: unknown) => void): void;
  widget_manager?: { get_model(id: string): Promise<{ get(name: string): unknown }> };
}

interface View {
  render(args: RenderArguments): unknown;
}

interface RenderArguments {
  model: Model;
  el: HTMLElement;
}

const PREFIX = 'IPY_MODEL_';
const REQUEST = -1;
const TIMEOUT_MS = 10_000;
const KEPT = Symbol.for('rootbound.modules');

type Kept = typeof globalThis & { [KEPT]?: Map<string, Promise<View>> };

/** The bundle by the reference to its model; from Python where models cannot find each other. */
async function bundleOf(model: Model): Promise<Bundle> {
  const reference = String(model.get('_bundle'));
  if (model.widget_manager && reference.startsWith(PREFIX)) {
    const holder = await model.widget_manager.get_model(reference.slice(PREFIX.length));
    const text = (name: string): string => String(holder.get(name) ?? '');
    return { script: text('script'), style: text('style'), digest: text('digest') };
  }
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error('Rootbound’s view could not be fetched; run the cell again.')),
      TIMEOUT_MS
    );
    const answered = (content?: unknown): void => {
      const answer = content as { reply_to?: number; result?: Bundle };
      if (answer?.reply_to === REQUEST && answer.result) {
        clearTimeout(timer);
        model.off('msg:custom', answered);
        resolve(answer.result);
      }
    };
    model.on('msg:custom', answered);
    model.send({ id: REQUEST, method: 'bundle', params: {} });
  });
}

function load({ script, digest }: Bundle): Promise<View> {
  const kept = ((globalThis as Kept)[KEPT] ??= new Map());
  let view = kept.get(digest);
  if (!view) {
    const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    view = import(/* @vite-ignore */ url)
      .then((module: { default: View }) => module.default)
      .finally(() => URL.revokeObjectURL(url));
    kept.set(digest, view);
  }
  return view;
}

function addStyle({ style, digest }: Bundle, el: HTMLElement): void {
  const root = el.getRootNode();
  const place = root instanceof ShadowRoot ? root : el.ownerDocument.head;
  if (!place.querySelector(`style[data-rootbound="${digest}"]`)) {
    const sheet = el.ownerDocument.createElement('style');
    sheet.dataset['rootbound'] = digest;
    sheet.textContent = style;
    place.append(sheet);
  }
}

export default {
  async render(args: RenderArguments): Promise<unknown> {
    const bundle = await bundleOf(args.model);
    addStyle(bundle, args.el);
    return (await load(bundle)).render(args);
  }
};
