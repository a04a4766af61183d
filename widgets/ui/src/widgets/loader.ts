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
const HELD_MS = 2_000;
const KEPT = Symbol.for('rootbound.modules');

type Kept = typeof globalThis & { [KEPT]?: Map<string, Promise<View>> };

/** What the model that a reference names holds; null when there is no such model. */
async function heldBy(model: Model, reference: string): Promise<Bundle | null> {
  const found = model.widget_manager?.get_model(reference.slice(PREFIX.length));
  // Where a model is not known, some hosts wait for it for ever.
  const holder = await Promise.race([
    Promise.resolve(found).catch(() => null),
    new Promise<null>(resolve => setTimeout(() => resolve(null), HELD_MS))
  ]);
  const text = (name: string): string => String(holder?.get(name) ?? '');
  return text('script')
    ? { script: text('script'), style: text('style'), digest: text('digest') }
    : null;
}

/** The bundle by the reference to its model; from Python where models cannot find each other. */
async function bundleOf(model: Model): Promise<Bundle> {
  const reference = String(model.get('_bundle'));
  const held = reference.startsWith(PREFIX) ? await heldBy(model, reference) : null;
  if (held) {
    return held;
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

const SHEETS = Symbol.for('rootbound.sheets');

type Styled = (Document | ShadowRoot) & { [SHEETS]?: Set<string> };

/** Give a page, or the shadow of one, the style once; no content security policy forbids it so. */
function addStyle({ style, digest }: Bundle, el: HTMLElement): void {
  const root = el.getRootNode();
  const place: Styled = root instanceof ShadowRoot ? root : el.ownerDocument;
  const known = (place[SHEETS] ??= new Set());
  if (!known.has(digest)) {
    known.add(digest);
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    place.adoptedStyleSheets = [...place.adoptedStyleSheets, sheet];
  }
}

export default {
  async render(args: RenderArguments): Promise<unknown> {
    const bundle = await bundleOf(args.model);
    addStyle(bundle, args.el);
    // Some hosts put the element into the page, or into a shadow of it, only afterwards.
    requestAnimationFrame(() => addStyle(bundle, args.el));
    return (await load(bundle)).render(args);
  }
};
