import type { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import { type ISignal, Signal } from '@lumino/signaling';

import type { LiveAttempt } from '../model/machine';
import { attemptStatusLabel } from '../components/labels';
import { rootboundIcon } from './icons';
import type { PanelContext } from './panels';
import type { Pulse } from './pulse';

/** Attempts at work among Lab's running things; shutting one down cancels it. */
export class RunningAttempts implements IRunningSessions.IManager {
  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  private readonly _changed = new Signal<this, void>(this);
  private shown = '';

  constructor(
    private readonly pulse: Pulse,
    private readonly context: PanelContext
  ) {
    const { trans } = context;
    this.name = trans.__('Agents at Work');
    this.shutdownLabel = trans.__('Cancel the attempt');
    this.shutdownAllLabel = trans.__('Cancel All');
    this.shutdownAllConfirmationText = trans.__(
      'Are you sure you want to cancel all attempts at work? Their branches and records are kept.'
    );
    pulse.changed.connect(() => {
      // Lab draws the list anew each time; that is worth it only when it says something else.
      const now = JSON.stringify(pulse.state.live);
      if (now !== this.shown) {
        this.shown = now;
        this._changed.emit();
      }
    });
  }

  get runningChanged(): ISignal<this, void> {
    return this._changed;
  }

  running(): IRunningSessions.IRunningItem[] {
    return this.pulse.state.live.map(attempt => this.item(attempt));
  }

  refreshRunning(): void {
    void this.pulse.look();
  }

  shutdownAll(): void {
    for (const attempt of this.pulse.state.live) {
      this.cancel(attempt.id);
    }
  }

  private item(attempt: LiveAttempt): IRunningSessions.IRunningItem {
    const { trans } = this.context;
    return {
      open: () => this.context.openAttempt(attempt.id),
      shutdown: () => this.cancel(attempt.id),
      icon: () => rootboundIcon,
      label: () => attempt.task_title,
      labelTitle: () =>
        trans.__('%1, attempt %2 of “%3”', attempt.project_name, attempt.number, attempt.task_title),
      detail: () => attemptStatusLabel(attempt.status, trans)
    };
  }

  private cancel(id: string): void {
    // What does not succeed is still in the list after the next look.
    void this.context.source
      .cancelAttempt(id)
      .catch(() => undefined)
      .then(() => this.pulse.look());
  }
}

export function addRunning(
  managers: IRunningSessionManagers,
  pulse: Pulse,
  context: PanelContext
): void {
  managers.add(new RunningAttempts(pulse, context));
}
