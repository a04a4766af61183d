/** Which of our own colours fit the page; hosts with JupyterLab's variables use those instead. */
import type { Dispose } from '../source/source';

export type Colours = 'light' | 'dark';

const DARK = '(prefers-color-scheme: dark)';
// Pages that fade from one theme to the other have their last colour by then.
const FADED_MS = 400;

/**
 * Whether a page is light or dark where an element stands.
 *
 * A host may be dark on a light desktop and the other way round, and says so in ways of its own;
 * but everywhere its text can be read on its background, so that light text means a dark page.
 */
export function coloursAround(element: HTMLElement): Colours {
  const view = element.ownerDocument.defaultView;
  const text = element.isConnected ? view?.getComputedStyle(element).color : '';
  const light = text ? lightness(text, element.ownerDocument) : null;
  if (light === null) {
    return view?.matchMedia?.(DARK).matches ? 'dark' : 'light';
  }
  return light > 0.5 ? 'dark' : 'light';
}

/** Lightness of any CSS colour, from 0 to 1; null when it cannot be told. */
function lightness(colour: string, page: Document): number | null {
  const plain = /^rgba?\((\d+), (\d+), (\d+)/.exec(colour);
  const [red, green, blue] = plain ? plain.slice(1).map(Number) : painted(colour, page);
  return red === undefined || green === undefined || blue === undefined
    ? null
    : (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}

/** The red, green and blue of a colour in one of CSS's newer notations. */
function painted(colour: string, page: Document): number[] {
  const canvas = page.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d');
  if (!context) {
    return [];
  }
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** Call back whenever the page may have changed its colours; returns the way to stop. */
export function watchColours(element: HTMLElement, look: () => void): Dispose {
  const page = element.ownerDocument;
  const wanted = page.defaultView?.matchMedia?.(DARK);
  let faded: ReturnType<typeof setTimeout> | undefined;
  const changed = (): void => {
    look();
    clearTimeout(faded);
    faded = setTimeout(look, FADED_MS);
  };
  // Hosts tell their theme in attributes of the page; an element has no colour before it is shown.
  const attributes = new MutationObserver(changed);
  for (const part of [page.documentElement, page.body]) {
    attributes.observe(part, { attributes: true });
  }
  const shown = typeof ResizeObserver === 'undefined' ? null : new ResizeObserver(look);
  shown?.observe(element);
  wanted?.addEventListener('change', changed);
  return () => {
    clearTimeout(faded);
    attributes.disconnect();
    shown?.disconnect();
    wanted?.removeEventListener('change', changed);
  };
}
