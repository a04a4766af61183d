import { afterEach, beforeEach, expect, test } from 'vitest';

import type { AuditNode } from '../src/model/types';
import { mountAuditTable } from '../src/mount';
import { AuditFactsStore } from '../src/stores/audit_facts';
import { FakeSource, accessRequest, auditRow, eventually } from './fixtures';
import { signal } from '@preact/signals';

let source: FakeSource;
let host: HTMLElement;
let unmount: (() => void) | null = null;

function node(path: string, fields: Partial<AuditNode> = {}): AuditNode {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const counts = { read: 1, write: 0, delete: 0, denied: 0, total: 1 };
  return { name, path, is_folder: true, ...counts, ...fields };
}

beforeEach(() => {
  source = new FakeSource();
  host = document.createElement('div');
  document.body.append(host);
});

afterEach(() => {
  unmount?.();
  unmount = null;
  host.remove();
});

test('the tree opens single folders by itself, and reads a folder once', async () => {
  const { auditFacts } = source;
  auditFacts.folders = {
    '/': [node('/repo')],
    '/repo': [node('/repo/src', { denied: 2 }), node('/repo/a.txt', { is_folder: false })],
    '/repo/src': [node('/repo/src/x.py', { is_folder: false })]
  };
  const store = new AuditFactsStore(auditFacts, { attempt: 'a1' }, signal({}));
  store.showTree();
  await eventually(() => {
    expect(store.rows.value.map(row => row.node.path)).toEqual([
      '/repo',
      '/repo/src',
      '/repo/a.txt'
    ]);
  });
  await store.toggle('/repo/src');
  await store.toggle('/repo/src');
  await store.toggle('/repo/src');
  expect(store.rows.value.map(row => [row.node.name, row.depth])).toEqual([
    ['repo', 0],
    ['src', 1],
    ['x.py', 2],
    ['a.txt', 1]
  ]);
  expect(auditFacts.calls.filter(call => call === 'tree /repo/src')).toHaveLength(1);
});

test('a single folder beneath an open one opens by itself when the filter leaves no other', async () => {
  const { auditFacts } = source;
  auditFacts.folders = {
    '/': [node('/tmp')],
    '/tmp': [node('/tmp/a'), node('/tmp/b')],
    '/tmp/a': [node('/tmp/a/src'), node('/tmp/a/x.py', { is_folder: false })]
  };
  const store = new AuditFactsStore(auditFacts, {}, signal({}));
  const shown = (): string[] => store.rows.value.map(row => row.node.path);
  store.showTree();
  await eventually(() => {
    expect(shown()).toEqual(['/tmp', '/tmp/a', '/tmp/b']);
  });
  auditFacts.folders['/tmp'] = [node('/tmp/a')];
  await store.reload();
  expect(shown()).toEqual(['/tmp', '/tmp/a', '/tmp/a/src', '/tmp/a/x.py']);
});

test('a verification adds its parts up, and a failure is told', async () => {
  const part = { ok: true, runs: 1, entries: 100, retained_away: 0, findings: [] };
  const finding = { run_id: 'r', seq: 7, id: 1, kind: 'changed', detail: 'Entry 7 was changed.' };
  source.auditFacts.verifications = [
    { ...part, next: 'more' },
    { ...part, ok: false, findings: [finding], next: null }
  ];
  const store = new AuditFactsStore(source.auditFacts, { attempt: 'a1' }, signal({}));
  await store.verify();
  expect(store.verification.value).toEqual({
    done: true,
    runs: 2,
    entries: 200,
    retained: 0,
    findings: [finding]
  });
  expect(source.auditFacts.calls).toEqual(['verify a1 start', 'verify a1 more']);
  await store.verify();
  expect(store.verification.value).toBeNull();
  expect(store.problem.value?.detail).toBe('The services do not answer.');
});

test('a denied row is decided where it stands, and the filter is the links’ query', async () => {
  const folder = '/data/out';
  source.rows = [
    auditRow(2, { result: 'DENIED', operation: 'WRITE', detail: { grant: { folder } } }),
    auditRow(1)
  ];
  source.requests = [accessRequest('q1', { folder })];
  unmount = mountAuditTable(host, source, { attempt: 'a1' });
  const button = (name: string): HTMLButtonElement | null =>
    host.querySelector(`[role="row"] [aria-label="${name}"]`);
  await eventually(() => expect(button('Refuse /data/out')).not.toBeNull());
  button('Refuse /data/out')?.click();
  await eventually(() => expect(source.calls).toContain('refuse q1'));
  await eventually(() =>
    expect(host.querySelector('[data-result="DENIED"]')?.textContent).toContain('refused')
  );

  const choice = host.querySelector<HTMLSelectElement>('[aria-label="Result"]');
  if (choice) {
    choice.value = 'DENIED';
    choice.dispatchEvent(new Event('change'));
  }
  await eventually(() => expect(source.auditFacts.calls).toContain('timeline DENIED'));
  expect(host.querySelector('a[download="audit.csv"]')?.getAttribute('href')).toBe(
    '/audit?result=DENIED&format=csv'
  );
  await eventually(() => expect(host.querySelectorAll('[role="row"]')).toHaveLength(2));
});

test('a stretch of the timeline is chosen by the keyboard', async () => {
  source.rows = [auditRow(1)];
  unmount = mountAuditTable(host, source, {});
  await eventually(() => expect(host.querySelector('[role="slider"]')).not.toBeNull());
  const plot = host.querySelector('[role="slider"]');
  const press = (key: string): void => {
    plot?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  };
  press('ArrowRight');
  await eventually(() => expect(host.querySelector('.jp-mod-range')).not.toBeNull());
  press('Enter');
  await eventually(() =>
    expect(host.querySelector('.jp-rootbound-Filters')?.textContent).toContain('×')
  );
});
