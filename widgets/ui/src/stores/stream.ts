import { batch, computed, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import { isLive } from '../model/types';
import type { Attempt, AttemptEvent, Usage } from '../model/types';
import type { Dispose, Link, Source } from '../source/source';
import { type GateItem, type Item, ItemBuilder } from './items';
import type { Late } from './late';
import { type Excerpt, StreamSearch } from './search';
import type { Kind } from './transcript';

const RETRY_S = 2;

// A burst of events asks for the attempt once.
const REFRESH_DELAY_MS = 150;

// Events that are read at a time after an excerpt.
const LATER = 500;

// How long a stream counts as late after its last late frame, in milliseconds.
const LAG_SHOWN_MS = 5000;

/** State of one attempt's stream. */
export class StreamStore {
  readonly attempt = signal<Attempt | null>(null);
  readonly problem = signal<ProblemError | null>(null);
  /** A decision that was not made, because somebody else was quicker. */
  readonly late = signal<Late | null>(null);
  readonly link = signal<Link>('connecting');
  readonly ended = signal(false);
  readonly busy = signal(false);
  /** Grows with every delivery; items are changed in place. */
  readonly revision = signal(0);
  readonly follow = signal(true);
  /** What the reader looks for, and among what. */
  readonly search = signal('');
  readonly kind = signal<Kind>('all');
  /** How late the newest events were, in seconds; 0 when that is not worth telling. */
  readonly lag = signal(0);
  /** Grows with each event about a request for access. */
  readonly accessNews = signal(0);
  /** Keys of the entries whose fold differs from its default. */
  readonly toggled = signal<ReadonlySet<number>>(new Set());
  readonly usage = computed<Usage>(() => {
    void this.revision.value;
    return (this.builder.usage as Usage | null) ?? this.attempt.value?.usage ?? {};
  });
  readonly canCancel = computed(() => isLive(this.attempt.value?.status ?? 'SUCCESS'));
  readonly canReview = computed(() => this.attempt.value?.status === 'REVIEW');

  /** Looks for what was typed in the events that are not here. */
  readonly beyond: StreamSearch;
  /** The stream around an event that was found; null while the newest events are shown. */
  readonly excerpt = signal<Excerpt | null>(null);

  private firstSeq = 0;
  private lastSeq = 0;
  private readonly builder = new ItemBuilder();
  private stopWatching: Dispose | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private refreshSoon: ReturnType<typeof setTimeout> | undefined;
  private caughtUp: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;
  /** The task's version when this view was drawn; what is read since was not looked at. */
  private seenVersion: number | undefined;

  constructor(
    private readonly source: Source,
    private readonly attemptId: string
  ) {
    this.beyond = new StreamSearch(source, attemptId);
  }

  /** The attempt as its reader saw it, for decisions; null before it is there. */
  get seen(): Attempt | null {
    const attempt = this.attempt.value;
    return attempt && { ...attempt, task_version: this.seenVersion };
  }

  /** Whether there are events that did not arrive yet. */
  get isLoading(): boolean {
    const attempt = this.attempt.value;
    return (
      attempt !== null && attempt.last_seq >= (attempt.first_seq ?? 1) && this.lastSeq === 0
    );
  }

  get items(): readonly Item[] {
    return this.excerpt.value?.builder.items ?? this.builder.items;
  }

  /** Load the attempt and follow its events. */
  async open(): Promise<void> {
    clearTimeout(this.retry);
    await this.refresh();
    if (!this.attempt.value || this.disposed || this.stopWatching) {
      return;
    }
    this.stopWatching = this.source.watchEvents(this.attemptId, this.lastSeq, {
      events: events => this.receive(events),
      attempt: attempt => {
        this.attempt.value = attempt;
      },
      lag: seconds => this.setLag(seconds),
      link: link => {
        this.link.value = link;
      },
      end: () => {
        this.ended.value = true;
        void this.refresh();
      },
      failed: problem => {
        this.problem.value = problem;
      }
    });
  }

  /** Take in events; those already seen are dropped. */
  receive(events: readonly AttemptEvent[]): void {
    let changed = false;
    let stale = false;
    let access = false;
    const isFirst = this.lastSeq === 0;
    for (const event of events) {
      if (event.seq <= this.lastSeq) {
        continue;
      }
      if (this.lastSeq === 0) {
        this.firstSeq = event.seq;
        changed = true;
      }
      if (event.seq > this.lastSeq + 1) {
        // Only a saved, shortened state leaves events out; a live stream has no holes.
        this.builder.gap(event, event.seq - this.lastSeq - 1);
      }
      this.lastSeq = event.seq;
      changed = this.builder.add(event) || changed;
      stale ||= event.type === 'STATUS' || event.type === 'ARTIFACT';
      access ||= event.payload['kind'] === 'access';
    }
    if (changed) {
      this.revision.value += 1;
    }
    if (isFirst && this.search.peek()) {
      // Only now it is known what is not here.
      this.look(this.search.peek());
    }
    if (access) {
      this.accessNews.value += 1;
    }
    if (stale || access) {
      this.refreshSoon ??= setTimeout(() => {
        this.refreshSoon = undefined;
        void this.refresh();
      }, REFRESH_DELAY_MS);
    }
  }

  toggle(key: number): void {
    const toggled = new Set(this.toggled.value);
    if (!toggled.delete(key)) {
      toggled.add(key);
    }
    this.toggled.value = toggled;
  }

  /** Whether what lies before an entry that stands for left out events can be read. */
  canReadBefore(item: Item): boolean {
    return (
      item === this.items[0] && this.source.eventsBefore !== undefined && this.source.live.value
    );
  }

  /** Show more of what lies before the first event shown. */
  readEarlier(): Promise<boolean> {
    return this.act(async () => {
      const excerpt = this.excerpt.value;
      const page = await this.source.eventsBefore?.(
        this.attemptId,
        excerpt?.from ?? this.firstSeq
      );
      if (page && !this.disposed && excerpt) {
        excerpt.prepend(page.results);
        this.revision.value += 1;
      } else if (page && !this.disposed) {
        this.firstSeq = page.results[0]?.seq ?? page.first_seq;
        this.builder.prepend(page.results, this.firstSeq - page.first_seq);
        this.follow.value = false;
        this.revision.value += 1;
      }
    });
  }

  /** Look for words, among the events that are here and those that are not. */
  look(words: string): void {
    this.search.value = words;
    this.beyond.look(words, this.firstSeq, this.attempt.value?.first_seq ?? 1);
  }

  /** Show what stands around an event. */
  show(seq: number): Promise<boolean> {
    return this.act(async () => {
      const excerpt = await this.beyond.around(seq);
      if (excerpt && !this.disposed) {
        batch(() => {
          this.toggled.value = new Set(excerpt.isFolded ? [excerpt.key] : []);
          this.follow.value = false;
          this.excerpt.value = excerpt;
        });
      }
    });
  }

  /** Show more of what follows an excerpt. */
  readLater(): Promise<boolean> {
    return this.act(async () => {
      const excerpt = this.excerpt.value;
      if (excerpt) {
        const page = await this.source.eventsAfter?.(this.attemptId, excerpt.to, LATER);
        excerpt.append(page?.results ?? []);
        this.revision.value += 1;
      }
    });
  }

  /** Whether events follow those that an excerpt shows. */
  get hasLater(): boolean {
    const excerpt = this.excerpt.value;
    return excerpt !== null && excerpt.to < this.lastSeq;
  }

  /** Go back to the newest events. */
  leaveExcerpt(): void {
    if (this.excerpt.value) {
      this.excerpt.value = null;
      this.toggled.value = new Set();
    }
  }

  /** Where the whole log of a gate can be downloaded; null when it cannot. */
  logAddress(item: GateItem): string | null {
    const name = item.evidence?.log_artifact;
    return name ? (this.source.artifactAddress?.(this.attemptId, name) ?? null) : null;
  }

  cancel(): Promise<boolean> {
    return this.act(() => this.source.cancelAttempt(this.attemptId, this.seenVersion));
  }

  approve(): Promise<boolean> {
    return this.act(() => this.source.approveAttempt(this.attemptId, this.seenVersion));
  }

  reject(reason: string): Promise<boolean> {
    return this.act(() => this.source.rejectAttempt(this.attemptId, reason, this.seenVersion));
  }

  /** Look at the attempt and its task as they are now. */
  lookAgain(): Promise<void> {
    this.seenVersion = undefined;
    return this.refresh();
  }

  dispose(): void {
    this.disposed = true;
    this.beyond.dispose();
    clearTimeout(this.retry);
    clearTimeout(this.refreshSoon);
    clearTimeout(this.caughtUp);
    this.stopWatching?.();
    this.stopWatching = null;
  }

  /** Note how late the newest event was; what is quiet since is not late any more. */
  private setLag(seconds: number): void {
    clearTimeout(this.caughtUp);
    this.lag.value = seconds;
    if (seconds > 0) {
      this.caughtUp = setTimeout(() => {
        this.lag.value = 0;
      }, LAG_SHOWN_MS);
    }
  }

  private async refresh(): Promise<void> {
    try {
      const attempt = await this.source.getAttempt(this.attemptId);
      if (!this.disposed) {
        this.attempt.value = attempt;
        this.seenVersion ??= attempt.task_version;
        this.problem.value = null;
      }
    } catch (reason) {
      const problem = asProblem(reason);
      if (this.disposed) {
        return;
      }
      this.problem.value = problem;
      if (problem.isPassing) {
        const wait = problem.retryAfter ?? RETRY_S;
        this.retry = setTimeout(() => void this.open(), wait * 1000);
      }
    }
  }

  private async act(action: () => Promise<void>): Promise<boolean> {
    if (this.busy.value) {
      return false;
    }
    this.busy.value = true;
    const status = this.attempt.value?.status ?? null;
    try {
      await action();
      this.problem.value = null;
      this.late.value = null;
      await this.refresh();
      return true;
    } catch (reason) {
      const problem = asProblem(reason);
      if (problem.isTooLate) {
        this.late.value = { problem, status };
        await this.lookAgain();
      } else {
        this.problem.value = problem;
      }
      return false;
    } finally {
      this.busy.value = false;
    }
  }
}
