/** Two people decide on one attempt: the later one hears of it once, and keeps what was typed. */
import { afterEach, beforeEach, expect, test } from 'vitest';

import { ProblemError } from '../src/model/problem';
import type { Attempt } from '../src/model/types';
import { mountAttemptStream } from '../src/mount';
import { mountReview } from '../src/mount_review';
import type { Work } from '../src/source/work';
import { FakeSource, attempt, event, eventually } from './fixtures';

const CHANGED = 'Somebody changed this task meanwhile; look at it as it is now and try again.';

let host: HTMLElement;
let unmount: (() => void) | null = null;

beforeEach(() => {
  sessionStorage.clear();
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
const banner = (): string | undefined =>
  host.querySelector('.jp-rootbound-Banner.jp-mod-warn')?.textContent ?? undefined;
const type = (selector: string, text: string): void => {
  const field = host.querySelector<HTMLInputElement>(selector);
  expect(field).not.toBeNull();
  if (field) {
    field.value = text;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }
};
const submit = (): void => {
  host.querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
};

/** Says no to a decision on a task that is not as it was seen. */
class Guarded extends FakeSource {
  readonly decided: string[] = [];

  override async approveAttempt(_id: string, version?: number): Promise<void> {
    this.decide(`approve at ${version}`, version);
  }

  override async rejectAttempt(_id: string, reason: string, version?: number): Promise<void> {
    this.decide(`reject at ${version}: ${reason}`, version);
  }

  private decide(what: string, version: number | undefined): void {
    this.decided.push(what);
    if (version !== this.current.task_version) {
      throw new ProblemError(CHANGED, 'version-conflict', 409);
    }
    this.current = { ...this.current, status: 'FAILED' };
  }
}

test('a stream decides on the task as it was seen, and after one conflict as it is', async () => {
  const source = new Guarded();
  source.current = attempt({ status: 'REVIEW', task_version: 1 });
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(button('Reject…')).toBeDefined());
  // The task is edited; a later look at the attempt is no look at the task.
  source.current = attempt({ status: 'REVIEW', task_version: 2 });
  source.eventSink?.events([event(1, 'STATUS', { status: 'REVIEW' })]);
  button('Reject…')?.click();
  await eventually(() => type('form input', 'Too long'));
  await eventually(() => expect(button('Reject')?.disabled).toBe(false));
  submit();
  await eventually(() => expect(banner()).toContain(CHANGED));
  expect(banner()).toContain('What you typed is kept.');
  expect(host.querySelector<HTMLInputElement>('form input')?.value).toBe('Too long');
  submit();
  await eventually(() => expect(host.querySelector('form')).toBeNull());
  expect(source.decided).toEqual(['reject at 1: Too long', 'reject at 2: Too long']);
  expect(banner()).toBeUndefined();
});

test('a reason that is being typed outlives somebody else’s decision', async () => {
  const source = new Guarded();
  source.current = attempt({ status: 'REVIEW', task_version: 1 });
  unmount = mountAttemptStream(host, source, 'a1');
  await eventually(() => expect(button('Reject…')).toBeDefined());
  button('Reject…')?.click();
  await eventually(() => type('form input', 'Half a sen'));
  source.current = attempt({ status: 'SUCCESS', task_version: 1 });
  source.eventSink?.events([event(1, 'STATUS', { status: 'SUCCESS' })]);
  await eventually(() => expect(banner()).toContain('it is “Merged” now. What you typed is kept.'));
  expect(host.querySelector<HTMLInputElement>('form input')?.value).toBe('Half a sen');
  expect(button('Reject')?.disabled).toBe(true);
  expect(source.decided).toEqual([]);
});

test('a review asks for changes of the attempt as it was seen', async () => {
  let now: Attempt = attempt({ status: 'REVIEW', head_commit: 'bbb', task_version: 4 });
  const seen: string[] = [];
  const opened: string[] = [];
  const part: Partial<Work> = {
    getAttempt: async () => now,
    getDiff: async () => ({
      base: 'aaa', head: 'bbb', files: [], stats: { files: 0, additions: 0, deletions: 0 }
    }),
    listComments: async () => [],
    mergePreview: async () => {
      throw new ProblemError('Not now.', 'http', 500);
    },
    compare: async () => [],
    requestChanges: async ({ status, task_version: version }, feedback) => {
      seen.push(`${status} ${version}: ${feedback}`);
      if (status !== now.status) {
        throw new ProblemError('It is FAILED now.', 'attempt-moved', 409);
      }
      return attempt({ id: 'a2' });
    }
  };
  unmount = mountReview(host, part as Work, 'a1', { openAttempt: id => opened.push(id) });
  await eventually(() => expect(button('Request changes…')).toBeDefined());
  button('Request changes…')?.click();
  await eventually(() => type('textarea', 'Shorter, please'));
  now = { ...now, status: 'FAILED', failure: 'REJECTED' };
  const start = 'Start an attempt that goes on';
  await eventually(() => expect(button(start)?.disabled).toBe(false));
  submit();
  await eventually(() => expect(banner()).toContain('it is “Failed” now. What you typed is kept.'));
  expect(banner()).toContain('This was not done.');
  expect(host.querySelector('textarea')?.value).toBe('Shorter, please');
  submit();
  await eventually(() => expect(opened).toEqual(['a2']));
  expect(seen).toEqual(['REVIEW 4: Shorter, please', 'FAILED 4: Shorter, please']);
  expect(host.querySelector('textarea')).toBeNull();
});
