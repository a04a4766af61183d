import { batch, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import type { AttemptEvent } from '../model/types';
import type { Source } from '../source/source';
import { type Item, ItemBuilder } from './items';

// Who is still typing asks nobody.
const PAUSE_MS = 300;
// One answer is of a stretch of the stream; so many stretches are read by themselves.
const STRETCHES = 5;
const ENOUGH = 30;
/** Events shown on each side of one that was found. */
const AROUND = 200;

/** An event that the server found, and the entry that it makes. */
export interface Hit {
  readonly seq: number;
  readonly item: Item;
}

/** The stream as it is around one event, read from the server and apart from what is live. */
export class Excerpt {
  readonly builder = new ItemBuilder();
  /** The entry in which the event that was looked for stands. */
  key = 0;
  from: number;
  to: number;

  constructor(
    readonly seq: number,
    events: readonly AttemptEvent[],
    private readonly firstSeq: number
  ) {
    this.from = events[0]?.seq ?? seq;
    this.to = this.from - 1;
    const [first] = events;
    if (first && this.from > firstSeq) {
      this.builder.gap(first, this.from - firstSeq);
    }
    this.append(events);
  }

  /** Whether what was looked for is in an entry that is folded until somebody opens it. */
  get isFolded(): boolean {
    const item = this.builder.items.find(one => one.key === this.key);
    return item?.kind === 'tool' || item?.kind === 'thinking' || isPassedGate(item);
  }

  append(events: readonly AttemptEvent[]): void {
    for (const event of events) {
      this.builder.add(event);
      this.to = event.seq;
      if (event.seq === this.seq) {
        this.key = this.builder.touched?.key ?? event.seq;
      }
    }
  }

  prepend(events: readonly AttemptEvent[]): void {
    this.from = events[0]?.seq ?? this.firstSeq;
    this.builder.prepend(events, this.from - this.firstSeq);
  }
}

/** Looks for words in the events of an attempt that a view does not hold. */
export class StreamSearch {
  /** What was found in front of the events that are shown, oldest first. */
  readonly hits = signal<readonly Hit[]>([]);
  readonly busy = signal(false);
  readonly problem = signal<ProblemError | null>(null);
  /** The event before which to go on looking; null when all were looked at. */
  readonly further = signal<number | null>(null);
  /** Whether somebody was asked about what is typed. */
  readonly looked = signal(false);
  private words = '';
  private asked = 0;
  private pause: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly source: Source,
    private readonly attemptId: string
  ) {}

  /** Whether there is somebody to ask. */
  get isPossible(): boolean {
    return this.source.searchEvents !== undefined && this.source.live.value;
  }

  /**
   * Look for words a moment after they were typed.
   *
   * @param before The first event that the view holds.
   * @param first The first event that is kept.
   */
  look(words: string, before: number, first: number): void {
    clearTimeout(this.pause);
    this.asked += 1;
    this.words = words.trim();
    batch(() => {
      this.hits.value = [];
      this.busy.value = false;
      this.problem.value = null;
      this.looked.value = false;
      this.further.value = this.words && this.isPossible && before > first ? before : null;
    });
    if (this.further.value !== null) {
      this.busy.value = true;
      this.pause = setTimeout(() => void this.more(), PAUSE_MS);
    }
  }

  /** Look further back. */
  async more(): Promise<void> {
    const mine = ++this.asked;
    const found = this.hits.value.length;
    this.busy.value = true;
    try {
      for (let at = 0; at < STRETCHES && this.hits.value.length - found < ENOUGH; at += 1) {
        const before = this.further.value;
        if (before === null) {
          break;
        }
        const page = await this.source.searchEvents?.(this.attemptId, this.words, before);
        if (mine !== this.asked || !page) {
          return;
        }
        this.looked.value = true;
        this.hits.value = [...page.results.flatMap(hitOf), ...this.hits.value];
        this.further.value = page.previous;
      }
      this.problem.value = null;
    } catch (reason) {
      if (mine === this.asked) {
        this.problem.value = asProblem(reason);
      }
    } finally {
      if (mine === this.asked) {
        this.busy.value = false;
      }
    }
  }

  /** Read what stands around an event. */
  async around(seq: number): Promise<Excerpt | null> {
    const page = await this.source.eventsAfter?.(
      this.attemptId,
      Math.max(0, seq - AROUND - 1),
      2 * AROUND
    );
    return page ? new Excerpt(seq, page.results, page.first_seq) : null;
  }

  dispose(): void {
    clearTimeout(this.pause);
    this.asked += 1;
  }
}

function isPassedGate(item: Item | undefined): boolean {
  return item?.kind === 'gate' && (item.evidence === null || item.evidence.exit_code === 0);
}

function hitOf(event: AttemptEvent): Hit[] {
  const builder = new ItemBuilder();
  builder.add(event);
  const item = builder.touched;
  return item ? [{ seq: event.seq, item }] : [];
}
