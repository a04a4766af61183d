export type PatchLineKind = 'hunk' | 'add' | 'remove' | 'same' | 'note';

export interface PatchLine {
  kind: PatchLineKind;
  /** Line number before the change; null where there is none. */
  before: number | null;
  /** Line number after the change; null where there is none. */
  after: number | null;
  text: string;
}

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

/** Read one file's unified patch; what comes before the first hunk (git's headers) is left out. */
export function parsePatch(patch: string): PatchLine[] {
  const lines: PatchLine[] = [];
  let before = 0;
  let after = 0;
  let inHunk = false;
  const source = patch.endsWith('\n') ? patch.slice(0, -1) : patch;
  for (const line of source.split('\n')) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      inHunk = true;
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      lines.push({ kind: 'hunk', before: null, after: null, text: line });
    } else if (!inHunk) {
      continue;
    } else if (line.startsWith('+')) {
      lines.push({ kind: 'add', before: null, after: after++, text: line.slice(1) });
    } else if (line.startsWith('-')) {
      lines.push({ kind: 'remove', before: before++, after: null, text: line.slice(1) });
    } else if (line.startsWith('\\')) {
      lines.push({ kind: 'note', before: null, after: null, text: line.slice(2) });
    } else {
      lines.push({ kind: 'same', before: before++, after: after++, text: line.slice(1) });
    }
  }
  return lines;
}
