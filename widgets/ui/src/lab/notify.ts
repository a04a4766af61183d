import { Notification } from '@jupyterlab/apputils';

import type { LiveAttempt, Notice } from '../model/machine';
import type { PanelContext } from './panels';
import type { Pulse, PulseState } from './pulse';

const LONGEST = 130;

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
 * what was there before. What does not wait any more is taken back.
 */
export function addNotifications(pulse: Pulse, notifier: Notifier): void {
  const teller = new Teller(notifier);
  pulse.changed.connect(() => {
    if (pulse.state.stack === 'ready') {
      teller.tell(pulse.state);
    }
  });
}

class Teller {
  private readonly told = new Set<string>();
  private readonly heard = new Set<number>();
  // The notifications that are open, by attempt.
  private readonly reviews = new Map<string, string>();
  private readonly requests = new Map<string, { id: string; count: number }>();
  private known = false;

  constructor(private readonly notifier: Notifier) {}

  tell(now: PulseState): void {
    const level = this.notifier.level();
    const speaks = this.known && level !== 'off';
    this.takeBack(now);
    for (const attempt of [...now.reviews, ...now.ended]) {
      // An attempt comes by twice: when it waits for its review, and when it ends.
      const news = `${attempt.id} ${attempt.status}`;
      if (!this.told.has(news)) {
        this.told.add(news);
        if (speaks && !this.notifier.isWatched(attempt.id)) {
          this.tellEnd(attempt, level);
        }
      }
    }
    for (const attempt of now.live) {
      this.tellRequests(attempt, speaks);
    }
    for (const notice of now.notices) {
      if (!this.heard.has(notice.id)) {
        this.heard.add(notice.id);
        if (speaks && !this.notifier.isWatched(null)) {
          this.tellNotice(notice);
        }
      }
    }
    this.known = true;
  }

  /** Dismiss what was decided elsewhere, or is on the screen now. */
  private takeBack({ reviews, live }: PulseState): void {
    const { isWatched } = this.notifier;
    for (const [attempt, id] of this.reviews) {
      if (isWatched(attempt) || !reviews.some(one => one.id === attempt)) {
        Notification.dismiss(id);
        this.reviews.delete(attempt);
      }
    }
    for (const [attempt, { id }] of this.requests) {
      const waits = live.some(one => one.id === attempt && one.pending_requests > 0);
      if (id !== '' && (isWatched(attempt) || !waits)) {
        Notification.dismiss(id);
        this.requests.set(attempt, { id: '', count: 0 });
      }
    }
  }

  private tellEnd(attempt: LiveAttempt, level: NotificationLevel): void {
    const { trans, openAttempt } = this.notifier.context;
    const { status, failure, failure_message, task_title } = attempt;
    const actions = [{ label: trans.__('Open'), callback: () => openAttempt(attempt.id) }];
    if (status === 'REVIEW') {
      const text = trans.__('“%1” waits for your review.', task_title);
      this.reviews.set(attempt.id, Notification.info(text, { autoClose: false, actions }));
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

  /** One notification for all requests of an attempt; it counts on while it is open. */
  private tellRequests(attempt: LiveAttempt, speaks: boolean): void {
    const { trans, openAttempt } = this.notifier.context;
    const count = attempt.pending_requests;
    const before = this.requests.get(attempt.id) ?? { id: '', count: 0 };
    if (count === before.count) {
      return;
    }
    let { id } = before;
    if (count > before.count && speaks && !this.notifier.isWatched(attempt.id)) {
      const message = trans._n(
        'The agent of “%2” asks for %1 permission.',
        'The agent of “%2” asks for %1 permissions.',
        count,
        attempt.task_title
      );
      const options = {
        autoClose: false as const,
        actions: [{ label: trans.__('Decide'), callback: () => openAttempt(attempt.id) }]
      };
      // Also one that the user has closed is gone; then what is new is told anew.
      if (id === '' || !Notification.update({ id, message, ...options })) {
        id = Notification.warning(message, options);
      }
    }
    this.requests.set(attempt.id, { id, count });
  }

  private tellNotice({ text }: Notice): void {
    const { trans, openSchedules } = this.notifier.context;
    const short = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
    Notification.warning(short, {
      autoClose: false,
      actions: [{ label: trans.__('Open'), callback: openSchedules }]
    });
  }
}
