import { Signal } from '@lumino/signaling';
import { beforeEach, expect, test, vi } from 'vitest';

import type { LiveAttempt } from '../src/model/machine';
import type { Pulse, PulseState } from '../src/lab/pulse';

interface Shown {
  id: string;
  message: string;
}

const lab = vi.hoisted(() => ({ shown: [] as Shown[], made: 0 }));

vi.mock('@jupyterlab/apputils', () => {
  const show = (message: string): string => {
    const id = `n${(lab.made += 1)}`;
    lab.shown.push({ id, message });
    return id;
  };
  const update = ({ id, message }: Shown): boolean => {
    const found = lab.shown.find(one => one.id === id);
    if (found) {
      found.message = message;
    }
    return found !== undefined;
  };
  const dismiss = (id: string): void => {
    lab.shown = lab.shown.filter(one => one.id !== id);
  };
  return { Notification: { info: show, warning: show, success: show, update, dismiss } };
});

const { addNotifications } = await import('../src/lab/notify');
const { plainTrans } = await import('../src/model/trans');

const attempt = (status: LiveAttempt['status'], pending = 0): LiveAttempt => ({
  id: 'a1',
  number: 1,
  status,
  task: 't1',
  task_title: 'Fix it',
  project: 'p1',
  project_name: 'Shop',
  started_at: null,
  denied_count: pending,
  pending_requests: pending,
  waiting_for: '',
  failure: null,
  failure_message: ''
});

/** Looks of a pulse, one after the other. */
class Looks {
  state: PulseState = {
    stack: 'ready',
    live: [],
    reviews: [],
    ended: [],
    pendingRequests: 0,
    notices: [],
    lda: null
  };
  readonly changed = new Signal<this, PulseState>(this);

  see(part: Partial<PulseState>): string[] {
    const before = this.state;
    this.state = { ...before, live: [], reviews: [], ...part };
    this.changed.emit(before);
    return lab.shown.map(one => one.message);
  }
}

let watched = false;
let looks: Looks;

beforeEach(() => {
  lab.shown = [];
  watched = false;
  looks = new Looks();
  addNotifications(looks as unknown as Pulse, {
    context: { trans: plainTrans, openAttempt: () => undefined } as never,
    level: () => 'needed',
    isWatched: () => watched
  });
  looks.see({});
});

test('requests of an attempt are one notification that counts on, and goes when they are decided', () => {
  expect(looks.see({ live: [attempt('RUNNING', 1)] })).toEqual([
    'The agent of “Fix it” asks for 1 permission.'
  ]);
  expect(looks.see({ live: [attempt('RUNNING', 3)] })).toEqual([
    'The agent of “Fix it” asks for 3 permissions.'
  ]);
  expect(looks.see({ live: [attempt('RUNNING', 3)] })).toHaveLength(1);
  expect(looks.see({ live: [attempt('RUNNING', 0)] })).toEqual([]);
  // What is asked later is told again; who closed one hears only of what is new.
  expect(looks.see({ live: [attempt('RUNNING', 1)] })).toHaveLength(1);
  lab.shown = [];
  expect(looks.see({ live: [attempt('RUNNING', 1)] })).toEqual([]);
  expect(looks.see({ live: [attempt('RUNNING', 2)] })).toHaveLength(1);
  expect(looks.see({})).toEqual([]);
});

test('a review is told once, and taken back when it is decided or looked at', () => {
  expect(looks.see({ reviews: [attempt('REVIEW')] })).toEqual(['“Fix it” waits for your review.']);
  expect(looks.see({ reviews: [attempt('REVIEW')] })).toHaveLength(1);
  watched = true;
  expect(looks.see({ reviews: [attempt('REVIEW')] })).toEqual([]);
  watched = false;
  expect(looks.see({ reviews: [attempt('REVIEW')] })).toEqual([]);
});

test('what was there before is not told', () => {
  lab.shown = [];
  const fresh = new Looks();
  addNotifications(fresh as unknown as Pulse, {
    context: { trans: plainTrans, openAttempt: () => undefined } as never,
    level: () => 'needed',
    isWatched: () => false
  });
  expect(fresh.see({ live: [attempt('RUNNING', 2)] })).toEqual([]);
  expect(fresh.see({ live: [attempt('RUNNING', 2)] })).toEqual([]);
});
