// @vitest-environment node
import { expect, test } from 'vitest';

import { committed, scan, template } from '../scripts/messages.mjs';

test('everything that is said goes through the translator, and is in the catalogue', () => {
  const { messages, loose } = scan();
  expect(loose).toEqual([]);
  // Stale? `npm run messages` writes it anew.
  expect(template(messages)).toBe(committed());
});

test('the catalogue has plurals, contexts and the front end’s own problems', () => {
  const { messages } = scan();
  const found = new Map(messages.map(({ id, plural, context }) => [id, { plural, context }]));
  expect(found.get('%1 review')).toEqual({ plural: '%1 reviews', context: null });
  expect(found.get('Show the status bar item')).toEqual({ plural: null, context: 'settings' });
  expect(found.has('The Jupyter server does not answer.')).toBe(true);
  expect(messages.length).toBeGreaterThan(400);
});
