/** An attempt's items as a reader filters, copies and keeps them. */
import { clock } from '../model/format';
import type { Item } from './items';

export type Kind = 'all' | 'talk' | 'tools' | 'gates' | 'problems';

export const KINDS: readonly Kind[] = ['all', 'talk', 'tools', 'gates', 'problems'];

/** Whether an item belongs to a kind; statuses are landmarks and belong to each. */
export function isOfKind(item: Item, kind: Kind): boolean {
  switch (kind) {
    case 'all':
      return true;
    case 'talk':
      return ['text', 'thinking', 'said', 'status'].includes(item.kind);
    case 'tools':
      return item.kind === 'tool' || item.kind === 'status';
    case 'gates':
      return item.kind === 'gate' || item.kind === 'baseline' || item.kind === 'status';
    case 'problems':
      return (
        item.kind === 'error' ||
        item.kind === 'retry' ||
        item.kind === 'access' ||
        (item.kind === 'tool' && item.result?.ok === false) ||
        (item.kind === 'gate' && item.evidence !== null && item.evidence.exit_code !== 0)
      );
  }
}

/** All that an item says, as plain text. */
export function textOf(item: Item): string {
  switch (item.kind) {
    case 'text':
    case 'thinking':
      return item.text;
    case 'tool': {
      const args = Object.entries(item.args).map(
        ([name, value]) =>
          `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`
      );
      return [item.tool, ...args, item.output.plain, item.result?.text ?? '']
        .filter(Boolean)
        .join('\n');
    }
    case 'gate':
      return [`${item.name}: ${item.command}`, item.output.plain].filter(Boolean).join('\n');
    default:
      return [item.text, ...item.more].join('\n');
  }
}

/** Items that are of a kind and hold every word. */
export function filtered(items: readonly Item[], kind: Kind, search: string): readonly Item[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (kind === 'all' && words.length === 0) {
    return items;
  }
  return items.filter(item => {
    if (!isOfKind(item, kind)) {
      return false;
    }
    if (words.length === 0) {
      return true;
    }
    const text = textOf(item).toLowerCase();
    return words.every(word => text.includes(word));
  });
}

const SNIPPET_BEFORE = 60;
const SNIPPET_CHARS = 240;

/** The part of a text in which the first of the words stands, on one line. */
export function snippet(text: string, search: string): string {
  const words = search.toLowerCase().split(/[\s"]+/).filter(Boolean);
  const lower = text.toLowerCase();
  const places = words.map(word => lower.indexOf(word)).filter(at => at >= 0);
  const from = Math.max(0, Math.min(...places, text.length) - SNIPPET_BEFORE);
  const start = places.length > 0 ? from : 0;
  const part = text.slice(start, start + SNIPPET_CHARS).replace(/\s+/g, ' ').trim();
  return `${start > 0 ? '…' : ''}${part}${start + SNIPPET_CHARS < text.length ? '…' : ''}`;
}

/** Items as a text file. */
export function transcript(items: readonly Item[]): string {
  return `${items
    .map(item => `[${clock(item.timestamp)}] ${item.kind}\n${textOf(item)}`)
    .join('\n\n')}\n`;
}
