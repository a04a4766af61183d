/** Terminal colours (SGR) of a command's output, as classed pieces of text. */

export interface Piece {
  text: string;
  /** Class names, such as `ansi-red-fg ansi-bold`: the ones JupyterLab's own theme colours. */
  classes: string;
}

export interface Style {
  fg: string | null;
  bg: string | null;
  bold: boolean;
  underline: boolean;
}

const COLOURS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];
export const PLAIN: Style = { fg: null, bg: null, bold: false, underline: false };
// eslint-disable-next-line no-control-regex
const SGR = /\u001b\[([0-9;]*)m/g;
// What moves the cursor, sets titles or links: a log has no use for it.
const OTHERS =
  // eslint-disable-next-line no-control-regex
  /\u001b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\^_])/g;

function classes(style: Style): string {
  return [
    style.fg && `ansi-${style.fg}-fg`,
    style.bg && `ansi-${style.bg}-bg`,
    style.bold && 'ansi-bold',
    style.underline && 'ansi-underline'
  ]
    .filter(Boolean)
    .join(' ');
}

function apply(style: Style, codes: readonly number[]): Style {
  const next = { ...style };
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] ?? 0;
    const colour = COLOURS[code % 10];
    if (code === 0) {
      Object.assign(next, PLAIN);
    } else if (code === 1) {
      next.bold = true;
    } else if (code === 4) {
      next.underline = true;
    } else if (code === 22) {
      next.bold = false;
    } else if (code === 24) {
      next.underline = false;
    } else if (code === 38 || code === 48) {
      // 256 and true colours are left out: the theme's sixteen are those it makes readable.
      index += codes[index + 1] === 5 ? 2 : 4;
    } else if (code === 39) {
      next.fg = null;
    } else if (code === 49) {
      next.bg = null;
    } else if (code >= 30 && code <= 37) {
      next.fg = colour ?? null;
    } else if (code >= 40 && code <= 47) {
      next.bg = colour ?? null;
    } else if (code >= 90 && code <= 97) {
      next.fg = `${colour}-intense`;
    } else if (code >= 100 && code <= 107) {
      next.bg = `${colour}-intense`;
    }
  }
  return next;
}

function codesOf(match: RegExpMatchArray): number[] {
  return (match[1] ?? '').split(';').map(Number);
}

/** The style in which text leaves off. */
export function styleAfter(text: string, style: Style): Style {
  if (!text.includes('\u001b')) {
    return style;
  }
  for (const match of text.matchAll(SGR)) {
    style = apply(style, codesOf(match));
  }
  return isPlain(style) ? PLAIN : style;
}

function isPlain(style: Style): boolean {
  return style.fg === null && style.bg === null && !style.bold && !style.underline;
}

/** Split output into pieces of one style; progress bars are at their last state. */
export function coloured(text: string, style: Style = PLAIN): Piece[] {
  const clean = text
    .replace(OTHERS, '')
    .split('\n')
    .map(line => line.replace(/\r+$/, ''))
    .map(line => line.slice(line.lastIndexOf('\r') + 1))
    .join('\n');
  const pieces: Piece[] = [];
  let from = 0;
  const push = (end: number): void => {
    if (end > from) {
      pieces.push({ text: clean.slice(from, end), classes: classes(style) });
    }
  };
  for (const match of clean.matchAll(SGR)) {
    push(match.index);
    style = apply(style, codesOf(match));
    from = match.index + match[0].length;
  }
  push(clean.length);
  return pieces;
}
