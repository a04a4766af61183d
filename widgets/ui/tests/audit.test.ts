import { beforeEach, expect, test } from 'vitest';

import { AuditStore } from '../src/stores/audit';
import { FakeSource, auditRow } from './fixtures';

let source: FakeSource;
let store: AuditStore;

beforeEach(() => {
  source = new FakeSource();
  source.rows = Array.from({ length: 250 }, (_, index) =>
    auditRow(index + 1, { result: index % 10 === 0 ? 'DENIED' : 'ALLOWED' })
  );
  store = new AuditStore(source, { attempt: 'a1' });
});

test('pages follow the cursor to the end, each row once', async () => {
  await store.open();
  expect(store.rows).toHaveLength(100);
  await store.loadMore();
  await store.loadMore();
  expect(store.rows.map(row => row.seq)).toEqual(source.rows.map(row => row.seq));
  expect(store.complete.value).toBe(true);

  await store.loadMore();
  expect(source.calls).toEqual(['audit all from start', 'audit all from 100', 'audit all from 200']);
});

test('a page that is under way is not asked for twice', async () => {
  await store.open();
  await Promise.all([store.loadMore(), store.loadMore()]);
  expect(store.rows).toHaveLength(200);
});

test('a filter starts anew, and a late page of the old filter is dropped', async () => {
  await store.open();
  const late = store.loadMore();
  await store.setFilter({ result: 'DENIED' });
  await late;
  expect(store.rows).toHaveLength(25);
  expect(store.rows.every(row => row.result === 'DENIED')).toBe(true);
  // The counts are of what the table shows.
  expect(store.counts.value).toMatchObject([{ result: 'DENIED', count: 25 }]);
});
