import { signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';

const RETRY_S = 2;

/** Does something and reads again; false when it failed, which the store's problem tells. */
export type Act = (what: () => Promise<unknown>) => Promise<boolean>;

/** One value fetched from a source, with its problem and its retry while the services are away. */
export class Loaded<T> {
  readonly value = signal<T | null>(null);
  readonly problem = signal<ProblemError | null>(null);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;
  /** The problem is an action's; reading again does not take it away. */
  private failed = false;

  /**
   * @param fetch Gets the value.
   * @param everySeconds Fetch again after this time; null for once.
   */
  constructor(
    private readonly fetch: () => Promise<T>,
    private readonly everySeconds: number | null = null
  ) {}

  async load(): Promise<void> {
    clearTimeout(this.timer);
    let wait = this.everySeconds;
    try {
      const value = await this.fetch();
      if (this.disposed) {
        return;
      }
      this.value.value = value;
      if (!this.failed || this.problem.value === null) {
        this.failed = false;
        this.problem.value = null;
      }
    } catch (reason) {
      const problem = asProblem(reason);
      if (this.disposed) {
        return;
      }
      this.problem.value = problem;
      this.failed = false;
      wait = problem.isPassing ? (problem.retryAfter ?? RETRY_S) : wait;
    }
    if (wait !== null) {
      this.timer = setTimeout(() => void this.load(), wait * 1000);
    }
  }

  /** Do something that changes the value, then fetch it again. */
  async act(what: () => Promise<unknown>): Promise<boolean> {
    try {
      await what();
    } catch (reason) {
      if (!this.disposed) {
        this.problem.value = asProblem(reason);
        this.failed = true;
      }
      return false;
    }
    this.failed = false;
    await this.load();
    return true;
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
  }
}
