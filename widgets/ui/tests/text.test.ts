import { expect, test } from 'vitest';

import { duration, plainOutput } from '../src/model/format';
import { parsePatch } from '../src/model/patch';

test('a patch is read with the line numbers of both sides', () => {
  const patch = [
    'diff --git a/x b/x',
    '--- a/x',
    '+++ b/x',
    '@@ -3,3 +3,4 @@ def f():',
    ' same',
    '-old',
    '+new',
    '+--- more',
    ' end',
    '\\ No newline at end of file',
    ''
  ].join('\n');
  expect(parsePatch(patch).map(line => [line.kind, line.before, line.after, line.text])).toEqual([
    ['hunk', null, null, '@@ -3,3 +3,4 @@ def f():'],
    ['same', 3, 3, 'same'],
    ['remove', 4, null, 'old'],
    ['add', null, 4, 'new'],
    ['add', null, 5, '--- more'],
    ['same', 5, 6, 'end'],
    ['note', null, null, 'No newline at end of file']
  ]);
});

test('output loses its terminal sequences and keeps the last state of a progress bar', () => {
  expect(plainOutput('\u001b[1;32mok\u001b[0m\r\n10%\r50%\r100%\ndone')).toBe('ok\n100%\ndone');
});

test('durations read as people say them', () => {
  expect([0.42, 12.3, 185, 7800].map(duration)).toEqual(['0.4 s', '12 s', '3 min 05 s', '2 h 10 min']);
});
