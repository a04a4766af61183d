import type { PatchLine } from './patch';

/** One row of a patch shown side by side. */
export interface SideRow {
  before: PatchLine | null;
  after: PatchLine | null;
}

/** Put removed lines beside the added ones that take their place. */
export function sideBySide(lines: readonly PatchLine[]): SideRow[] {
  const rows: SideRow[] = [];
  let removed: PatchLine[] = [];
  let added: PatchLine[] = [];
  const flush = (): void => {
    for (let index = 0; index < Math.max(removed.length, added.length); index += 1) {
      rows.push({ before: removed[index] ?? null, after: added[index] ?? null });
    }
    removed = [];
    added = [];
  };
  for (const line of lines) {
    if (line.kind === 'remove') {
      removed.push(line);
    } else if (line.kind === 'add') {
      added.push(line);
    } else {
      flush();
      rows.push({ before: line, after: line });
    }
  }
  flush();
  return rows;
}
