/** Wire types of schedules, and their words. */
import { signal } from '@preact/signals';
import cronstrue from 'cronstrue';

import { pageLanguage } from './trans';

export type ScheduleKind = 'PLAN' | 'BATCH';
export type Overlap = 'SKIP' | 'QUEUE' | 'REPLACE';
export type ScheduleRunStatus =
  | 'WAITING'
  | 'RUNNING'
  | 'SUCCESS'
  | 'FAILED'
  | 'SKIPPED'
  | 'CANCELLED';

export const LIVE_RUNS: readonly ScheduleRunStatus[] = ['WAITING', 'RUNNING'];

export interface Schedule {
  id: string;
  name: string;
  project_id: string;
  kind: ScheduleKind;
  crontab: string;
  timezone: string;
  overlap: Overlap;
  is_enabled: boolean;
  prompt: string;
  notebook: string;
  parameters: { readonly [name: string]: unknown };
  max_parallel: number | null;
  budget: number | null;
  next_run_at: string | null;
  last_status: ScheduleRunStatus | null;
}

/** What a schedule is made of. */
export type ScheduleFields = Omit<Schedule, 'id' | 'is_enabled' | 'next_run_at' | 'last_status'>;

export interface SchedulePreview {
  crontab: string;
  next_runs: string[];
}

export interface ScheduleRun {
  id: string;
  schedule_id: string;
  trigger: 'CRON' | 'MISSED' | 'MANUAL';
  status: ScheduleRunStatus;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  message: string;
  decomposition_id: string | null;
  report_url: string | null;
}

/** A notebook's parameters as lines `name = value`; values are JSON, or else text. */
export function parameterLines(parameters: Schedule['parameters']): string {
  return Object.entries(parameters)
    .map(([name, value]) => `${name} = ${isPlain(value) ? value : JSON.stringify(value)}`)
    .join('\n');
}

/**
 * Read such lines.
 *
 * @throws Error with the first line that is none.
 */
export function readParameters(text: string): { [name: string]: unknown } {
  const found: { [name: string]: unknown } = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at < 0 && line.trim() !== '') {
      throw new Error(line.trim());
    }
    if (at >= 0) {
      found[line.slice(0, at).trim()] = valueOf(line.slice(at + 1).trim());
    }
  }
  return found;
}

/** Whether a value is text that reads back as itself. */
function isPlain(value: unknown): value is string {
  return typeof value === 'string' && value === value.trim() && valueOf(value) === value &&
    !value.includes('\n');
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

type Words = (crontab: string) => string;

const english: Words = crontab => cronstrue.toString(crontab, { use24HourTimeFormat: true });

/** Says crontabs: in English until the words of another language have come. */
const words = signal(english);

/** A stored crontab as a sentence; the crontab itself when there are no words for it. */
export function cronSentence(crontab: string): string {
  try {
    return words.value(crontab);
  } catch {
    return crontab;
  }
}

/**
 * Have crontabs said in a language, as far as there are words in it.
 *
 * The words of all languages are one piece, loaded for the first that is not English.
 */
export async function sayCrontabsIn(language: string): Promise<void> {
  const wanted = language.replace('-', '_').toLowerCase();
  const [base = ''] = wanted.split('_');
  if (base === '' || base === 'en') {
    words.value = english;
    return;
  }
  const { default: translated } = await import('cronstrue/i18n');
  const known = Object.keys(translated.locales);
  const locale =
    known.find(one => one.toLowerCase() === wanted) ??
    known.find(one => one.toLowerCase().split('_')[0] === base);
  words.value = locale
    ? crontab => translated.toString(crontab, { use24HourTimeFormat: true, locale })
    : english;
}

/** For dates: the browser's own kind of the page's language, or else the page's. */
function dateLanguage(): string | string[] {
  const page = pageLanguage();
  const [base = ''] = page.toLowerCase().split('-');
  if (base === '' || base === globalThis.navigator?.language?.toLowerCase().split('-')[0]) {
    return [];
  }
  try {
    return Intl.getCanonicalLocales(page);
  } catch {
    return [];
  }
}

/** An instant on the clocks of a zone: `Mon, 30 Nov, 02:30`. */
export function instant(timestamp: string, timeZone?: string): string {
  const date = new Date(timestamp);
  const options: Intl.DateTimeFormatOptions = {
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23'
  };
  try {
    return date.toLocaleString(dateLanguage(), timeZone ? { ...options, timeZone } : options);
  } catch {
    // A zone that this browser does not know.
    return date.toLocaleString(dateLanguage(), options);
  }
}
