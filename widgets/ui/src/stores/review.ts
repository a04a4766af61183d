import { type Signal, batch, computed, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import { drafts } from '../model/drafts';
import type { Attempt, Diff, ReviewComment } from '../model/types';
import type { Comparison, MergePreview, Place } from '../model/work';
import type { Work } from '../source/work';
import type { Late } from './late';

const RETRY_S = 2;
// A merge that was made still names its branch.
const DECIDED_HERE = new Set(['REVIEW', 'SUCCESS']);
const LOOK_MS = 4000;

/** Where a comment stands, as a key. */
export function placeKey({ path, side, line }: Place): string {
  return line === null ? path : `${path}\n${side}\n${line}`;
}

/** State of the review of one attempt: its changes, evidence, comments and merge preview. */
export class ReviewStore {
  readonly attempt = signal<Attempt | null>(null);
  readonly diff = signal<Diff | null>(null);
  /** Why there is no diff; before its first commit an attempt has none. */
  readonly noDiff = signal<ProblemError | null>(null);
  readonly comments = signal<readonly ReviewComment[]>([]);
  readonly preview = signal<MergePreview | null>(null);
  readonly others = signal<readonly Comparison[]>([]);
  readonly problem = signal<ProblemError | null>(null);
  /** A decision that was not made, because somebody else was quicker. */
  readonly late = signal<Late | null>(null);
  readonly busy = signal(false);
  /** Comments that are being written, by place: a reload of the changes keeps them. */
  readonly drafts: Signal<ReadonlyMap<string, string>>;

  readonly canDecide = computed(() => this.attempt.value?.status === 'REVIEW');
  /** Whether work can go on from here: waiting for review, or failed with work kept. */
  readonly canGoOn = computed(() => {
    const status = this.attempt.value?.status;
    return status === 'REVIEW' || status === 'FAILED';
  });
  readonly byPlace = computed(() => {
    const found = new Map<string, ReviewComment[]>();
    for (const comment of this.comments.value) {
      const key = placeKey(comment);
      found.set(key, [...(found.get(key) ?? []), comment]);
    }
    return found;
  });

  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;
  private shownHead: string | null | undefined;
  /** The task's version when this view was drawn; what is read since was not looked at. */
  private seenVersion: number | undefined;

  constructor(
    private readonly work: Work,
    readonly attemptId: string
  ) {
    const kept = drafts.read<[string, string][]>(this.draftKey);
    this.drafts = signal(new Map(kept ?? []));
  }

  private get draftKey(): string {
    return `comments ${this.attemptId}`;
  }

  /** Load everything, and look again while the attempt is not over. */
  async load(): Promise<void> {
    clearTimeout(this.timer);
    let wait: number | null = LOOK_MS;
    try {
      const attempt = await this.work.getAttempt(this.attemptId);
      if (this.disposed) {
        return;
      }
      const moved =
        attempt.status !== this.attempt.value?.status || attempt.head_commit !== this.shownHead;
      this.attempt.value = attempt;
      this.seenVersion ??= attempt.task_version;
      if (moved) {
        await this.loadChanges(attempt);
        this.shownHead = attempt.head_commit;
      }
      if (this.problem.value?.isPassing) {
        this.problem.value = null;
      }
      if (attempt.status === 'SUCCESS' || attempt.status === 'FAILED') {
        wait = null;
      }
    } catch (reason) {
      const problem = asProblem(reason);
      this.problem.value = problem;
      wait = problem.isPassing ? (problem.retryAfter ?? RETRY_S) * 1000 : null;
    }
    if (wait !== null && !this.disposed) {
      this.timer = setTimeout(() => void this.load(), wait);
    }
  }

  /** Read everything anew. */
  async reload(): Promise<void> {
    this.shownHead = undefined;
    this.seenVersion = undefined;
    await this.load();
  }

  write(place: Place, text: string | null): void {
    const written = new Map(this.drafts.value);
    if (text === null) {
      written.delete(placeKey(place));
    } else {
      written.set(placeKey(place), text);
    }
    this.drafts.value = written;
    const kept = [...written].filter(([, words]) => words !== '');
    if (kept.length > 0) {
      drafts.write(this.draftKey, kept);
    } else {
      drafts.remove(this.draftKey);
    }
  }

  comment(place: Place): Promise<boolean> {
    const text = this.drafts.value.get(placeKey(place))?.trim() ?? '';
    return this.act(async () => {
      const made = await this.work.addComment(this.attemptId, place, text);
      this.comments.value = [...this.comments.value, made];
      this.write(place, null);
    });
  }

  removeComment(id: string): Promise<boolean> {
    return this.act(async () => {
      await this.work.deleteComment(this.attemptId, id);
      this.comments.value = this.comments.value.filter(comment => comment.id !== id);
    });
  }

  approve(): Promise<boolean> {
    return this.decide(seen => this.work.approve(seen));
  }

  reject(reason: string): Promise<boolean> {
    return this.decide(seen => this.work.reject(seen, reason));
  }

  /** Start an attempt that goes on with the work; its id, or null when that was refused. */
  requestChanges(feedback: string): Promise<string | null> {
    return this.begin(seen => this.work.requestChanges(seen, feedback));
  }

  /** Bring the work onto the branch as it is now, as a new attempt. */
  update(resolve: boolean): Promise<string | null> {
    return this.begin(seen => this.work.update(seen, resolve));
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
  }

  private async loadChanges(attempt: Attempt): Promise<void> {
    const [diff, comments, preview, others] = await Promise.allSettled([
      this.work.getDiff(this.attemptId),
      this.work.listComments(this.attemptId),
      DECIDED_HERE.has(attempt.status) ? this.work.mergePreview(this.attemptId) : null,
      this.work.compare(attempt.task)
    ]);
    if (this.disposed) {
      return;
    }
    batch(() => {
      if (diff.status === 'fulfilled') {
        this.diff.value = diff.value;
        this.noDiff.value = null;
      } else {
        this.noDiff.value = asProblem(diff.reason);
      }
      this.comments.value = comments.status === 'fulfilled' ? comments.value : this.comments.value;
      this.preview.value = preview.status === 'fulfilled' ? preview.value : null;
      this.others.value = others.status === 'fulfilled' ? others.value : this.others.value;
    });
  }

  /** Decide on the attempt as it was seen. */
  private async decide(what: (seen: Attempt) => Promise<void>): Promise<boolean> {
    const attempt = this.attempt.value;
    if (!attempt) {
      return false;
    }
    return this.act(
      () => what({ ...attempt, task_version: this.seenVersion }),
      // A refusal may come of what changed meanwhile: a branch that moved, a decided attempt.
      done => (done ? this.load() : this.reload())
    );
  }

  private async begin(what: (seen: Attempt) => Promise<Attempt>): Promise<string | null> {
    let made: string | null = null;
    await this.decide(async seen => {
      made = (await what(seen)).id;
    });
    return made;
  }

  private async act(
    what: () => Promise<void>,
    afterwards: (done: boolean) => Promise<void> = async () => undefined
  ): Promise<boolean> {
    if (this.busy.value) {
      return false;
    }
    this.busy.value = true;
    try {
      await what();
      this.problem.value = null;
      this.late.value = null;
      await afterwards(true);
      return true;
    } catch (reason) {
      const problem = asProblem(reason);
      if (problem.isTooLate) {
        this.late.value = { problem, status: this.attempt.value?.status ?? null };
      } else {
        this.problem.value = problem;
      }
      await afterwards(false);
      return false;
    } finally {
      this.busy.value = false;
    }
  }
}
