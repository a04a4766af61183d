import { signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import type { AccessQuery, AccessRequest, AccessScope } from '../model/types';
import type { Dispose, Source } from '../source/source';

const RETRY_S = 2;

/** What agents ask for, and the user's decisions. */
export class AccessStore {
  readonly requests = signal<readonly AccessRequest[]>([]);
  readonly problem = signal<ProblemError | null>(null);
  /** Ids of the requests whose decision is on its way. */
  readonly busy = signal<ReadonlySet<string>>(new Set());
  /** The last decision made here, for the confirmation. */
  readonly decided = signal<AccessRequest | null>(null);

  private stopWatching: Dispose | null = null;
  private generation = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;

  /**
   * @param scope Whose requests: an attempt's, a project's, or all.
   */
  constructor(
    private readonly source: Source,
    private readonly scope: AccessQuery
  ) {}

  open(): Promise<void> {
    this.stopWatching ??= this.source.watchAccess(this.scope, () => void this.reload());
    return this.reload();
  }

  async reload(): Promise<void> {
    clearTimeout(this.retry);
    this.generation += 1;
    const { generation } = this;
    try {
      const requests = await this.source.listAccessRequests(this.scope);
      // Of two answers that cross, the later question has the later state.
      if (generation === this.generation && !this.disposed) {
        this.requests.value = requests;
        this.problem.value = null;
      }
    } catch (reason) {
      if (generation === this.generation && !this.disposed) {
        const problem = asProblem(reason);
        // While the services start, the view around this one says so already.
        this.problem.value = problem.isPassing ? null : problem;
        if (problem.isPassing) {
          const wait = problem.retryAfter ?? RETRY_S;
          this.retry = setTimeout(() => void this.reload(), wait * 1000);
        }
      }
    }
  }

  grant(id: string, scope: AccessScope): Promise<void> {
    return this.decide(id, () => this.source.grantAccess(id, scope));
  }

  refuse(id: string): Promise<void> {
    return this.decide(id, () => this.source.refuseAccess(id));
  }

  /** The request that a denied operation belongs to. */
  matching(attempt: string | null, operation: string, folder: string): AccessRequest | undefined {
    return this.requests.value.find(
      one => one.attempt === attempt && one.operation === operation && one.folder === folder
    );
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.retry);
    this.stopWatching?.();
    this.stopWatching = null;
  }

  private async decide(id: string, act: () => Promise<AccessRequest>): Promise<void> {
    if (this.busy.value.has(id)) {
      return;
    }
    this.busy.value = new Set([...this.busy.value, id]);
    try {
      const decided = await act();
      this.decided.value = decided;
      this.requests.value = this.requests.value.map(one => (one.id === id ? decided : one));
      await this.reload();
    } catch (reason) {
      await this.reload();
      this.problem.value = asProblem(reason);
    } finally {
      this.busy.value = new Set([...this.busy.value].filter(one => one !== id));
    }
  }
}
