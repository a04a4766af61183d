/** Seconds as people say them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`. */
export function duration(seconds: number): string {
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  if (seconds < 60) {
    return `${Math.round(seconds)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, '0')} s`;
  }
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Local time of day, `14:03:22`; the text itself when it is not a time. */
export function clock(timestamp: string): string {
  const date = new Date(timestamp);
  // Without hours from 0 to 23, the first hour of a day would be the 24th.
  return Number.isNaN(date.getTime())
    ? timestamp
    : date.toLocaleTimeString([], { timeStyle: 'medium', hourCycle: 'h23' });
}

/** A count with a unit prefix: `950`, `12.3k`, `1.2M`. */
export function compact(count: number): string {
  if (count < 1000) {
    return String(count);
  }
  return count < 1e6 ? `${(count / 1e3).toFixed(1)}k` : `${(count / 1e6).toFixed(1)}M`;
}

/** The first characters of a commit. */
export function shortCommit(commit: string): string {
  return commit.slice(0, 8);
}

// Terminal sequences: CSI (colours, cursor), OSC (titles, links) and two-character escapes.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

/** A command's output as plain text: no terminal sequences, progress bars at their last state. */
export function plainOutput(text: string): string {
  const lines = text.replace(ESCAPES, '').replace(/\r+\n/g, '\n').split('\n');
  return lines.map(line => line.slice(line.lastIndexOf('\r') + 1)).join('\n');
}

/** A size: `512 B`, `3.4 MB`, `12 GB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = count;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** Money in US dollars, with as many places as it needs: `$0.0042`, `$1.25`. */
export function money(dollars: number): string {
  return `$${dollars.toFixed(dollars !== 0 && dollars < 0.1 ? 4 : 2)}`;
}
