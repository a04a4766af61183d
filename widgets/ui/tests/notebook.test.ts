import { afterEach, expect, test } from 'vitest';

import type { NotebookCell, NotebookDiff, ReviewComment } from '../src/model/types';
import type { Place } from '../src/model/work';
import { mountReview } from '../src/mount_review';
import type { Work } from '../src/source/work';
import { attempt, eventually } from './fixtures';

let unmount: (() => void) | null = null;

afterEach(() => {
  unmount?.();
  unmount = null;
  document.body.replaceChildren();
});

function cell(fields: Partial<NotebookCell>): NotebookCell {
  return {
    kind: 'modified',
    cell_type: 'code',
    cell_id: 'one',
    execution_count: null,
    before: 1,
    after: 1,
    before_line: 1,
    after_line: 1,
    patch: '',
    truncated: false,
    outputs: [],
    metadata: [],
    ...fields
  };
}

const PNG = 'iVBORw0KGgo=';
const NOTEBOOK: NotebookDiff = {
  note: null,
  metadata: [{ key: 'kernelspec', before: '"a"', after: '"b"' }],
  cells: [
    cell({
      execution_count: 4,
      before: 2,
      after: 3,
      before_line: 10,
      after_line: 20,
      kind: 'moved',
      patch: '@@ -11,2 +21,2 @@\n same\n-old <b>\n+new <b>',
      outputs: [
        {
          kind: 'modified',
          name: 'stdout',
          patch: '@@ -1,1 +1,1 @@\n-1\n+2',
          truncated: true,
          pictures: [
            { mime: 'image/png', before: PNG, after: PNG, left_out: false },
            { mime: 'image/svg+xml', before: PNG, after: PNG, left_out: false },
            { mime: 'image/jpeg', before: '"><script>', after: null, left_out: true }
          ],
          others: ['text/html']
        }
      ]
    }),
    cell({ kind: 'deleted', cell_type: 'markdown', before: 5, after: null, before_line: 40,
           after_line: null, patch: '@@ -41,1 +50,0 @@\n-# Gone' }),
    cell({ kind: 'added', cell_type: 'raw', before: null, after: 6, before_line: null,
           after_line: 60, metadata: [{ key: 'tags', before: null, after: '["a"]' }] })
  ]
};

function shown(notebook: NotebookDiff, comments: ReviewComment[], said: Place[]): HTMLElement {
  const host = document.body.appendChild(document.createElement('div'));
  const part: Partial<Work> = {
    getAttempt: async () => attempt({ status: 'REVIEW', head_commit: 'bbb' }),
    getDiff: async () => ({
      base: 'aaa',
      head: 'bbb',
      stats: { files: 1, additions: 1, deletions: 1 },
      files: [
        {
          path: 'a.ipynb',
          old_path: null,
          status: 'modified',
          additions: 1,
          deletions: 1,
          binary: false,
          patch: '@@ -1,1 +1,1 @@\n-flat\n+text',
          truncated: false,
          by_cell: !notebook.note,
          notebook
        }
      ]
    }),
    listComments: async () => comments,
    compare: async () => [],
    mergePreview: async () => ({
      base_branch: 'main',
      base: 'aaa',
      head: 'bbb',
      behind: 0,
      clean: true,
      merged: false,
      files: [],
      checkout: null,
      checkout_dirty: false
    }),
    addComment: async (_id, place, text) => {
      said.push(place);
      const made = { id: 'c9', attempt: 'a1', author: 'ada', commit: 'bbb', text };
      return { ...made, ...place, created_at: '2026-01-01T00:00:00Z' };
    }
  };
  unmount = mountReview(host, part as Work, 'a1');
  return host;
}

test('a notebook is reviewed cell by cell, with its outputs and comments', async () => {
  const remark = { attempt: 'a1', author: 'ada', commit: 'bbb', path: 'a.ipynb', created_at: '2026-01-01T00:00:00Z' };
  const said: Place[] = [];
  const host = shown(
    NOTEBOOK,
    [
      { ...remark, id: 'c1', side: 'new', line: 22, text: 'on a line' },
      { ...remark, id: 'c2', side: 'old', line: 40, text: 'on a cell' },
      { ...remark, id: 'c3', side: 'new', line: 7, text: 'on a line not shown' }
    ],
    said
  );
  await eventually(() => expect(host.querySelectorAll('article.jp-rootbound-Cell').length).toBe(3));
  const [moved, gone, added] = host.querySelectorAll('article.jp-rootbound-Cell');
  expect(moved?.getAttribute('aria-label')).toBe('In [4] moved, cell 2 → 3');
  expect(gone?.getAttribute('aria-label')).toBe('Markdown removed, cell 5');
  expect(added?.getAttribute('aria-label')).toBe('Raw added, cell 6');
  expect(added?.textContent).toContain('tags: ["a"]');
  expect(host.textContent).not.toContain('flat');
  expect(host.textContent).toContain('new <b>');
  const numbers = [...(moved?.querySelectorAll('.jp-rootbound-LineButton') ?? [])];
  expect(numbers.map(button => button.textContent)).toEqual(['1', '1', '2', '2']);
  const pictures = [...host.querySelectorAll('img')].map(image => image.src);
  expect(pictures).toEqual(Array(2).fill(`data:image/png;base64,${PNG}`));
  expect(moved?.textContent).toContain('Differs, and is not shown: text/html');
  expect(moved?.textContent).toContain('The rest is too long');
  expect(moved?.textContent).toContain('A picture (image/jpeg) is too large');
  expect(host.textContent?.match(/on a line(?! not)/g)?.length).toBe(1);
  expect(moved?.textContent).toContain('on a line');
  expect(gone?.textContent).toContain('on a cell');
  expect(host.textContent).toContain("On line 7 of the notebook's text");
  expect(host.textContent?.match(/on a line not shown/g)?.length).toBe(1);
  moved?.querySelector<HTMLButtonElement>('[aria-label="Comment on the cell"]')?.click();
  await eventually(() => expect(moved?.querySelector('textarea')).toBeTruthy());
  const area = moved?.querySelector('textarea') as HTMLTextAreaElement;
  area.value = 'Why?';
  area.dispatchEvent(new Event('input', { bubbles: true }));
  await eventually(() =>
    expect(moved?.querySelector<HTMLButtonElement>('[type=submit]')?.disabled).toBe(false)
  );
  moved?.querySelector<HTMLButtonElement>('[type=submit]')?.click();
  await eventually(() => expect(said).toEqual([{ path: 'a.ipynb', side: 'new', line: 20 }]));
  await eventually(() => expect(moved?.textContent).toContain('Why?'));
});

test('what could not be compared by cell is shown as a patch, and says why', async () => {
  const host = shown({ cells: [], metadata: [], note: 'It is too large.' }, [], []);
  await eventually(() => expect(host.textContent).toContain('It is too large.'));
  expect(host.textContent).toContain('flat');
  unmount?.();
  const same = shown({ cells: [], metadata: [], note: null }, [], []);
  await eventually(() => expect(same.textContent).toContain('Nothing differs but'));
});
