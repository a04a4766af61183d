import { Notification } from '@jupyterlab/apputils';

import type { LiveAttempt } from '../model/machine';
import { asProblem } from '../model/problem';
import type { PanelContext } from './panels';
import type { Pulse, PulseState } from './pulse';

export type NotificationLevel = 'all' | 'needed' | 'off';

export interface Notifier {
  context: PanelContext;
  level(): NotificationLevel;
  /** Whether the user is looking at this attempt now. */
  isWatched(attemptId: string): boolean;
}

/** Attempts that are no longer at work. */
export function ended(before: PulseState, now: PulseState): LiveAttempt[] {
  const still = new Set(now.live.map(one => one.id));
  return before.live.filter(one => !still.has(one.id));
}

/**
 * Tell of what waits for the user, through Lab's own notifications.
 *
 * Nothing is told of an attempt that the user is looking at, and nothing when Lab is opened about
 * what was there before.
 */
export function addNotifications(pulse: Pulse, notifier: Notifier): void {
  let known = false;
  pulse.changed.connect((_, before) => {
    const now = pulse.state;
    if (now.stack !== 'ready') {
      return;
    }
    const level = notifier.level();
    if (known && level !== 'off') {
      for (const attempt of ended(before, now)) {
        void tellEnd(notifier, attempt, level);
      }
      if (now.pendingRequests > before.pendingRequests) {
        tellRequests(notifier, now);
      }
    }
    known = true;
  });
}

async function tellEnd(
  notifier: Notifier,
  attempt: LiveAttempt,
  level: NotificationLevel
): Promise<void> {
  if (notifier.isWatched(attempt.id)) {
    return;
  }
  const { source, trans, openAttempt } = notifier.context;
  const actions = [{ label: trans.__('Open'), callback: () => openAttempt(attempt.id) }];
  try {
    const { status, failure, failure_message } = await source.getAttempt(attempt.id);
    if (status === 'REVIEW') {
      Notification.info(trans.__('“%1” waits for your review.', attempt.task_title), {
        autoClose: false,
        actions
      });
    } else if (status === 'FAILED' && failure !== 'CANCELLED' && failure !== 'REJECTED') {
      const why = failure_message ?? failure ?? '';
      Notification.warning(trans.__('“%1” failed: %2', attempt.task_title, why), {
        autoClose: false,
        actions
      });
    } else if (level === 'all') {
      Notification.success(trans.__('“%1” has ended.', attempt.task_title), {
        autoClose: 5000,
        actions
      });
    }
  } catch (reason) {
    // A deleted task is no news; everything else shows in the views as well.
    if (asProblem(reason).status !== 404) {
      console.warn('Rootbound: the end of an attempt could not be told.', reason);
    }
  }
}

function tellRequests(notifier: Notifier, now: PulseState): void {
  const { trans, openAttempt } = notifier.context;
  const asking = now.live.filter(one => one.denied_count > 0 && !notifier.isWatched(one.id));
  const first = asking[0];
  if (!first) {
    return;
  }
  Notification.warning(
    trans.__('The agent of “%1” asks for a permission.', first.task_title),
    {
      autoClose: false,
      actions: [{ label: trans.__('Decide'), callback: () => openAttempt(first.id) }]
    }
  );
}
