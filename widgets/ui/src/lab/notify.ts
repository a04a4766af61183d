import { Notification } from '@jupyterlab/apputils';

import type { LiveAttempt, Notice } from '../model/machine';
import type { PanelContext } from './panels';
import type { Pulse, PulseState } from './pulse';

export type NotificationLevel = 'all' | 'needed' | 'off';

export interface Notifier {
  context: PanelContext;
  level(): NotificationLevel;
  /** Whether the user is looking at this attempt now; null for the schedules. */
  isWatched(attemptId: string | null): boolean;
}

/**
 * Tell of what waits for the user, through Lab's own notifications.
 *
 * Nothing is told of an attempt that the user is looking at, and nothing when Lab is opened about
 * what was there before.
 */
export function addNotifications(pulse: Pulse, notifier: Notifier): void {
  const told = new Set<string>();
  const heard = new Set<number>();
  let known = false;
  pulse.changed.connect((_, before) => {
    const now = pulse.state;
    if (now.stack !== 'ready') {
      return;
    }
    const level = notifier.level();
    for (const attempt of [...now.reviews, ...now.ended]) {
      // An attempt comes by twice: when it waits for its review, and when it ends.
      const news = `${attempt.id} ${attempt.status}`;
      if (!told.has(news)) {
        told.add(news);
        if (known && level !== 'off' && !notifier.isWatched(attempt.id)) {
          tellEnd(notifier, attempt, level);
        }
      }
    }
    if (known && level !== 'off' && now.pendingRequests > before.pendingRequests) {
      tellRequests(notifier, now);
    }
    for (const notice of now.notices) {
      if (!heard.has(notice.id)) {
        heard.add(notice.id);
        if (known && level !== 'off' && !notifier.isWatched(null)) {
          tellNotice(notifier, notice);
        }
      }
    }
    known = true;
  });
}

function tellEnd(
  { context: { trans, openAttempt } }: Notifier,
  attempt: LiveAttempt,
  level: NotificationLevel
): void {
  const { status, failure, failure_message, task_title } = attempt;
  const actions = [{ label: trans.__('Open'), callback: () => openAttempt(attempt.id) }];
  if (status === 'REVIEW') {
    Notification.info(trans.__('“%1” waits for your review.', task_title), {
      autoClose: false,
      actions
    });
  } else if (status === 'FAILED' && failure !== 'CANCELLED' && failure !== 'REJECTED') {
    const why = failure_message || failure || '';
    Notification.warning(trans.__('“%1” failed: %2', task_title, why), {
      autoClose: false,
      actions
    });
  } else if (level === 'all') {
    Notification.success(trans.__('“%1” has ended.', task_title), { autoClose: 5000, actions });
  }
}

const LONGEST = 130;

function tellNotice({ context: { trans, openSchedules } }: Notifier, { text }: Notice): void {
  const short = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  Notification.warning(short, {
    autoClose: false,
    actions: [{ label: trans.__('Open'), callback: openSchedules }]
  });
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
