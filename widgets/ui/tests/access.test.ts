import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { mountAttemptStream, mountAuditTable, mountStackStatus } from '../src/mount';
import { ProblemError } from '../src/model/problem';
import { watchDenials } from '../src/source/denials';
import { FakeSource, accessRequest, attempt, auditRow, event, eventually, task } from './fixtures';

let source: FakeSource;
let host: HTMLElement;
let unmount: () => void;

beforeEach(() => {
  source = new FakeSource();
  source.requests = [accessRequest('r1', { count: 3 })];
  host = document.createElement('div');
  document.body.append(host);
  unmount = () => undefined;
});

afterEach(() => {
  unmount();
  host.remove();
  vi.useRealTimers();
});

function button(label: string): HTMLButtonElement {
  const found = [...host.querySelectorAll('button')].find(one => one.textContent === label);
  if (!found) {
    throw new Error(`no button ${label} in ${host.textContent}`);
  }
  return found;
}

function openAudit(): void {
  unmount = mountAuditTable(host, source, { attempt: 'a1' });
}

test('a request shows what was denied, and one click grants it for the task', async () => {
  openAudit();
  await eventually(() => expect(host.textContent).toContain('/data/out'));
  expect(host.textContent).toContain('bash: /data/out/result.txt (3 times)');

  button('Grant for this task').click();
  await eventually(() => expect(source.calls).toContain('grant r1 task'));
  await eventually(() =>
    expect(host.querySelector('[role="status"]')?.textContent).toContain('/data/out')
  );
  expect(button('Take back')).toBeTruthy();
});

test('a grant for always is confirmed first', async () => {
  openAudit();
  await eventually(() => expect(button('Always grant')).toBeTruthy());
  button('Always grant').click();
  await eventually(() => expect(button('Yes, always')).toBeTruthy());
  expect(source.calls.filter(call => call.startsWith('grant'))).toEqual([]);

  button('Yes, always').click();
  await eventually(() => expect(source.calls).toContain('grant r1 always'));
});

test('a refusal goes away from the list and is confirmed', async () => {
  openAudit();
  await eventually(() => expect(button('Refuse')).toBeTruthy());
  button('Refuse').click();
  await eventually(() => expect(host.querySelectorAll('li')).toHaveLength(0));
  expect(host.textContent).toContain('Refused: /data/out.');
});

test('what the server says against a decision is shown, and the request stays', async () => {
  openAudit();
  await eventually(() => expect(button('Refuse')).toBeTruthy());
  source.problem = new ProblemError('It leads elsewhere now.', 'root-moved', 409);
  button('Grant for this task').click();
  await eventually(() => expect(host.textContent).toContain('It leads elsewhere now.'));
  expect(button('Refuse')).toBeTruthy();
});

test('services that are still starting are asked again', async () => {
  vi.useFakeTimers();
  source.problem = new ProblemError('Starting.', 'stack-starting', 503);
  openAudit();
  await vi.advanceTimersByTimeAsync(50);
  source.problem = new ProblemError('Starting.', 'stack-starting', 503);
  await vi.advanceTimersByTimeAsync(2500);
  await vi.advanceTimersByTimeAsync(2500);
  expect(host.textContent).toContain('/data/out');
  expect(host.textContent).not.toContain('starting');
});

test('a denied row says what became of its request', async () => {
  const folder = { grant: { folder: '/data/out' } };
  const never = { grant: { refused: 'It belongs to the operating system.' } };
  source.rows = [
    auditRow(1, { operation: 'WRITE', result: 'DENIED', detail: folder }),
    auditRow(2, { operation: 'WRITE', result: 'DENIED', detail: never })
  ];
  openAudit();
  await eventually(() =>
    expect(host.querySelector('[role="cell"] [aria-label^="Grant"]')).not.toBeNull()
  );
  expect(host.textContent).toContain('not grantable');
});

test('a granted folder is withdrawn only after a second look', async () => {
  const root = { id: 'w1', path: '/data', canonical_path: '/data', is_enabled: true };
  source.stack = { stack: null, local_access: { lda: { reachable: true }, roots: [root] } };
  unmount = mountStackStatus(host, source);
  await eventually(() => expect(button('Withdraw…')).toBeTruthy());
  button('Withdraw…').click();
  await eventually(() => expect(button('Yes, withdraw')).toBeTruthy());
  expect(source.calls).not.toContain('withdraw w1');

  button('Yes, withdraw').click();
  await eventually(() => expect(source.calls).toContain('withdraw w1'));
  await eventually(() => expect(host.textContent).not.toContain('/data'));
});

test('an event of the stream brings the request without a look at the board', async () => {
  source.requests = [];
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(source.eventSink).not.toBeNull());
  source.requests = [accessRequest('r1')];
  source.eventSink?.events([
    event(1, 'LOG', { kind: 'access', request: 'r1', status: 'PENDING', text: 'Denied there.' })
  ]);
  await eventually(() => expect(button('Grant for this task')).toBeTruthy());
  expect(host.textContent).toContain('Denied there.');
});

test('a denial is told at once, other changes of the board gathered', async () => {
  vi.useFakeTimers();
  const told: boolean[] = [];
  unmount = watchDenials(source, { project: 'p1' }, denied => told.push(denied));
  await vi.advanceTimersByTimeAsync(0);
  const change = (denied_count: number): void =>
    source.taskSink?.task(task('t1', { latest_attempt: attempt({ denied_count }) }));
  source.taskSink?.snapshot([task('t1', { latest_attempt: attempt() })]);
  change(0);
  change(1);
  await vi.advanceTimersByTimeAsync(150);
  expect(told).toEqual([true]);
  change(1);
  await vi.advanceTimersByTimeAsync(1000);
  expect(told).toEqual([true, false]);
});

test('what was denied before the board answered is told with its first answer', async () => {
  const source = new FakeSource();
  const told: boolean[] = [];
  unmount = watchDenials(source, { project: 'p1' }, denied => told.push(denied));
  await eventually(() => expect(source.taskSink).not.toBeNull());
  source.taskSink?.snapshot([task('t1', { latest_attempt: attempt({ denied_count: 1 }) })]);
  await eventually(() => expect(told).toEqual([true]));
});
