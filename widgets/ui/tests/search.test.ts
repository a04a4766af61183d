/** Words that a view does not hold are looked for on the server, and shown where they stand. */
import { afterEach, beforeEach, expect, test } from 'vitest';

import type { AttemptEvent } from '../src/model/types';
import { mountAttemptStream } from '../src/mount';
import { Excerpt } from '../src/stores/search';
import { snippet } from '../src/stores/transcript';
import { FakeSource, attempt, event, eventually } from './fixtures';

const LAST = 5000;
const HELD = 100;

let host: HTMLElement;
let unmount: (() => void) | null = null;
let source: FakeSource;
let asked: string[];

const all: AttemptEvent[] = Array.from({ length: LAST }, (_, index) =>
  event(index + 1, 'LOG', {
    kind: 'notice',
    text: index % 700 === 699 ? `needle ${index + 1}` : `hay ${index + 1}`
  })
);

beforeEach(() => {
  asked = [];
  source = new FakeSource();
  source.current = attempt({ status: 'REVIEW', first_seq: 1, last_seq: LAST });
  source.eventsBefore = async (_id, seq) => ({
    first_seq: 1,
    results: all.slice(Math.max(0, seq - 201), seq - 1)
  });
  source.eventsAfter = async (_id, seq, limit) => ({
    first_seq: 1,
    results: all.slice(seq, seq + limit)
  });
  // A stretch of a thousand events an answer.
  source.searchEvents = async (_id, words, before) => {
    asked.push(`${words} before ${before}`);
    const from = Math.max(1, before - 1000);
    return {
      results: all.slice(from - 1, before - 1).filter(one => String(one.payload['text']).includes(words)),
      previous: from > 1 ? from : null
    };
  };
  host = document.createElement('div');
  document.body.append(host);
});

afterEach(() => {
  unmount?.();
  unmount = null;
  host.remove();
});

const button = (text: string): HTMLButtonElement | undefined =>
  [...host.querySelectorAll('button')].find(one => one.textContent === text);
const search = (words: string): void => {
  const field = host.querySelector<HTMLInputElement>('input[type="search"]');
  if (field) {
    field.value = words;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }
};

async function opened(): Promise<void> {
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  source.eventSink?.events(all.slice(LAST - HELD));
  await eventually(() => expect(host.querySelector('input[type="search"]')).not.toBeNull());
}

test('what is typed is looked for once it was typed, stretch by stretch to the first event', async () => {
  await opened();
  search('nee');
  search('needle');
  await eventually(() => expect(host.textContent).toContain('0 entries · 7 earlier events'));
  expect(asked).toEqual([4901, 3901, 2901, 1901, 901].map(before => `needle before ${before}`));
  const rows = [...host.querySelectorAll('.jp-mod-found')].map(row => row.textContent);
  expect(rows[0]).toContain('needle 700');
  expect(rows).toHaveLength(7);
  expect(button('Search further back')).toBeUndefined();
  search('straw');
  await eventually(() =>
    expect(host.textContent).toContain('0 entries · no earlier event with these whole words')
  );
  search('');
  await eventually(() => expect(host.querySelector('.jp-mod-found')).toBeNull());
  expect(host.textContent).toContain('hay 4901');
});

test('a find is shown among what stands around it, and the way leads back', async () => {
  await opened();
  search('needle');
  await eventually(() => expect(host.querySelectorAll('.jp-mod-found')).toHaveLength(7));
  host.querySelector<HTMLButtonElement>('.jp-mod-found button')?.click();
  await eventually(() => expect(host.textContent).toContain('Events 500 to 899 of 5000'));
  // Live events go on arriving behind, and are not mixed in.
  source.eventSink?.events([event(LAST + 1, 'LOG', { kind: 'notice', text: 'fresh' })]);
  button('Show later events')?.click();
  await eventually(() => expect(host.textContent).toContain('Events 500 to 1399 of 5000'));
  button('Back to the newest')?.click();
  await eventually(() => expect(host.querySelectorAll('.jp-mod-found')).toHaveLength(7));
  search('fresh');
  await eventually(() => expect(host.textContent).toContain('1 entry'));
});

test('without somebody to ask only what is here is looked through', async () => {
  source.live.value = false;
  await opened();
  search('needle');
  await eventually(() => expect(host.textContent).toContain('0 entries'));
  expect(host.textContent).not.toContain('earlier');
  expect(asked).toEqual([]);
});

test('a find is marked in the entry that it went into', () => {
  const events = [
    event(10, 'LOG', { kind: 'tool_call', step: 1, call_id: 'c', tool: 'run_command', args: {} }),
    event(11, 'LOG', { kind: 'notice', text: 'meanwhile' }),
    event(12, 'LOG', { kind: 'output', source: 'tool:c', text: 'the needle\n' })
  ];
  const excerpt = new Excerpt(12, events, 1);
  expect([excerpt.key, excerpt.isFolded, excerpt.from, excerpt.to]).toEqual([10, true, 10, 12]);
  excerpt.prepend([event(9, 'LOG', { kind: 'notice', text: 'before' })]);
  expect(excerpt.builder.items.map(item => item.kind)).toEqual(['gap', 'notice', 'tool', 'notice']);
});

test('a find is cut to where the words stand', () => {
  const text = `${'x '.repeat(200)}the needle\nis here ${'y '.repeat(200)}`;
  expect(snippet(text, 'NEEDLE')).toMatch(/^…[x ]+the needle is here [y ]+…$/);
  expect(snippet('short', 'nothing')).toBe('short');
});
