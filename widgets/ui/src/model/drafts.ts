/**
 * What somebody typed and has not sent: it outlives a reload of the page and a restart of the
 * services, in this browser tab alone. Nothing secret is ever typed into Rootbound's views.
 */
const PREFIX = 'rootbound:draft:';
// Some hosts of notebooks have no storage; then what was typed lives as long as the page.
const memory = new Map<string, string>();

function storage(): Storage | null {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}

export const drafts = {
  /** What was typed under a key; undefined when nothing was, or when it cannot be read. */
  read<T>(key: string): T | undefined {
    const text = storage()?.getItem(PREFIX + key) ?? memory.get(key);
    try {
      return text === undefined ? undefined : (JSON.parse(text) as T);
    } catch {
      return undefined;
    }
  },

  write(key: string, value: unknown): void {
    const text = JSON.stringify(value);
    memory.set(key, text);
    try {
      storage()?.setItem(PREFIX + key, text);
    } catch {
      // Full, or forbidden: the page itself still has it.
    }
  },

  remove(key: string): void {
    memory.delete(key);
    try {
      storage()?.removeItem(PREFIX + key);
    } catch {
      // As above.
    }
  }
};
