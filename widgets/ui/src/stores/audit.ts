import { batch, signal } from '@preact/signals';

import { sameFilter } from '../model/filter';
import { type ProblemError, asProblem } from '../model/problem';
import type { AuditCount, AuditQuery, AuditRow } from '../model/types';
import type { Source } from '../source/source';

const RETRY_S = 2;

/** State of the audit table: the rows fetched so far, and the way to the next page. */
export class AuditStore {
  /** The rows fetched so far; it grows in place, and `count` tells of it. */
  readonly rows: AuditRow[] = [];
  readonly count = signal(0);
  /** Counts changes of the rows, those that leave their number as well. */
  readonly revision = signal(0);
  /** Of all that matches, not only of the rows fetched; null until they are known. */
  readonly counts = signal<readonly AuditCount[] | null>(null);
  readonly filter = signal<AuditQuery>({});
  readonly loading = signal(false);
  readonly complete = signal(false);
  readonly problem = signal<ProblemError | null>(null);

  private cursor: string | null = null;
  private pages = 0;
  // Answers to a filter that is no longer shown are dropped.
  private generation = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param scope What the table is about (an attempt or a project); kept by every filter.
   */
  constructor(
    private readonly source: Source,
    readonly scope: AuditQuery
  ) {}

  /** What is shown: the scope and what narrows it. */
  get query(): AuditQuery {
    return { ...this.filter.value, ...this.scope };
  }

  open(): Promise<void> {
    this.filter.value = this.source.sharedAuditFilter() ?? {};
    return this.reload();
  }

  /**
   * The source has news: show them when only the first page is shown.
   *
   * A reader further down keeps the rows, and sees the new counts.
   */
  async renew(): Promise<void> {
    const shared = this.source.sharedAuditFilter();
    const filtered = shared !== null && !sameFilter(shared, this.filter.value);
    if (shared !== null && filtered) {
      // Another view of the same widget chose; asking for our own would contend with it for ever.
      this.filter.value = shared;
    }
    await (filtered || this.pages <= 1 ? this.reload() : this.loadCounts());
  }

  /** Narrow the rows; undefined fields do not filter. */
  setFilter(filter: AuditQuery): Promise<void> {
    this.filter.value = filter;
    return this.reload();
  }

  /** Read again from the first page. */
  async reload(): Promise<void> {
    clearTimeout(this.retry);
    this.generation += 1;
    this.cursor = null;
    this.pages = 0;
    batch(() => {
      this.complete.value = false;
      this.loading.value = false;
    });
    await Promise.all([this.loadMore(), this.loadCounts()]);
  }

  /** Fetch the next page, unless one is under way or there is none. */
  async loadMore(): Promise<void> {
    if (this.loading.value || this.complete.value) {
      return;
    }
    const { generation } = this;
    this.loading.value = true;
    try {
      const page = await this.source.listAudit(this.query, this.cursor);
      if (generation !== this.generation) {
        return;
      }
      this.cursor = page.next;
      batch(() => {
        if (this.pages === 0) {
          // Other rows may be as many: the list is emptied so that the view sees a change.
          this.rows.length = 0;
          this.count.value = 0;
        }
        for (const row of page.results) {
          this.rows.push(row);
        }
        this.count.value = this.rows.length;
        this.revision.value += 1;
        this.pages += 1;
        this.complete.value = page.next === null;
        this.problem.value = null;
      });
    } catch (reason) {
      if (generation === this.generation) {
        const problem = asProblem(reason);
        this.problem.value = problem;
        if (problem.isPassing) {
          const wait = problem.retryAfter ?? RETRY_S;
          this.retry = setTimeout(() => void this.reload(), wait * 1000);
        }
      }
    } finally {
      if (generation === this.generation) {
        this.loading.value = false;
      }
    }
  }

  dispose(): void {
    clearTimeout(this.retry);
    this.generation += 1;
  }

  private async loadCounts(): Promise<void> {
    const { generation } = this;
    try {
      const counts = await this.source.countAudit(this.query);
      if (generation === this.generation) {
        this.counts.value = counts;
      }
    } catch (reason) {
      if (generation === this.generation) {
        this.problem.value = asProblem(reason);
      }
    }
  }
}
