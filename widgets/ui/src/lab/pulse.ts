import { type ISignal, Signal } from '@lumino/signaling';

import type { LiveAttempt, LiveReport, Notice } from '../model/machine';
import type { LdaReport, LocalAccessReport, StackReport } from '../model/types';
import type { Transport } from '../source/transport';

const PERIOD_MS = 5_000;
/** While the services start, which takes some seconds. */
const STARTING_PERIOD_MS = 1_000;
const IDLE_PERIOD_MS = 15_000;
const LDA_PERIOD_MS = 60_000;
// Looking does not count as use of the server, which may end itself when it is idle.
const QUIET = '?no_track_activity=1';

/** What the shell shows without a panel being open. */
export interface PulseState {
  /** The services' state; null while Jupyter itself does not answer, empty before the first look. */
  stack: string | null;
  live: readonly LiveAttempt[];
  reviews: readonly LiveAttempt[];
  ended: readonly LiveAttempt[];
  pendingRequests: number;
  notices: readonly Notice[];
  lda: LdaReport | null;
}

const NOTHING: PulseState = {
  stack: '',
  live: [],
  reviews: [],
  ended: [],
  pendingRequests: 0,
  notices: [],
  lda: null
};

/**
 * Looks at what is at work every few seconds while the page is visible.
 *
 * It never starts the services: it asks the extension first, and the backend only when that says
 * it is ready.
 */
export class Pulse {
  state: PulseState = NOTHING;

  private readonly _changed = new Signal<this, PulseState>(this);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private ldaAt = 0;
  private looking: Promise<void> | null = null;

  constructor(private readonly transport: Transport) {}

  /** Emitted after each look, with the state before it. */
  get changed(): ISignal<this, PulseState> {
    return this._changed;
  }

  start(): void {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) {
        void this.look();
      }
    });
    void this.look();
  }

  /** Have everybody read the state again, for other reasons than a look. */
  told(): void {
    this._changed.emit(this.state);
  }

  /** Look now, unless that is under way. */
  look(): Promise<void> {
    this.looking ??= this.lookOnce().finally(() => {
      this.looking = null;
      clearTimeout(this.timer);
      if (!document.hidden) {
        this.timer = setTimeout(() => void this.look(), this.period());
      }
    });
    return this.looking;
  }

  private period(): number {
    const { stack, live } = this.state;
    if (stack === 'starting') {
      return STARTING_PERIOD_MS;
    }
    return live.length > 0 || stack !== 'stopped' ? PERIOD_MS : IDLE_PERIOD_MS;
  }

  private async lookOnce(): Promise<void> {
    const before = this.state;
    try {
      const stack = await this.get<StackReport>('stack');
      this.state = { ...this.state, stack: stack.state ?? 'stopped' };
      if (stack.state === 'ready') {
        const report = await this.get<LiveReport>('api/live/');
        this.state = {
          ...this.state,
          live: report.live,
          reviews: report.reviews,
          ended: report.ended,
          pendingRequests: report.pending_requests,
          notices: report.notices
        };
        await this.lookAtLda();
      }
    } catch {
      // Jupyter or the backend restarts; the next look tells.
      this.state = { ...this.state, stack: null };
    }
    this._changed.emit(before);
  }

  private async lookAtLda(): Promise<void> {
    // While reports are on their way, how many is news; else the level hardly changes.
    const { live, lda } = this.state;
    const period = live.length > 0 || lda?.outbox_depth ? PERIOD_MS : LDA_PERIOD_MS;
    if (Date.now() - this.ldaAt < period - 500) {
      return;
    }
    const report = await this.get<LocalAccessReport>('api/local-access/status/');
    this.ldaAt = Date.now();
    this.state = { ...this.state, lda: report.lda ?? null };
  }

  private async get<T>(path: string): Promise<T> {
    return (await this.transport.request('GET', path + QUIET)) as T;
  }
}
