import type { IStatusBar } from '@jupyterlab/statusbar';
import { Widget } from '@lumino/widgets';

import type { PanelContext } from './panels';
import type { Pulse, PulseState } from './pulse';

/** The status bar's item: what is at work, how late its reports are, and the level enforced. */
export class StatusItem extends Widget {
  private readonly button: HTMLButtonElement;

  constructor(
    private readonly pulse: Pulse,
    private readonly context: PanelContext,
    onClick: () => void
  ) {
    super();
    this.addClass('jp-rootbound-StatusItem');
    this.button = document.createElement('button');
    this.button.type = 'button';
    this.button.addEventListener('click', onClick);
    this.node.append(this.button);
    pulse.changed.connect(() => this.show_());
    this.show_();
  }

  private show_(): void {
    const { text, title } = statusText(this.pulse.state, this.context);
    // Unchanged text is left alone, so that nothing is drawn or read out again.
    if (this.button.textContent !== text) {
      this.button.textContent = text;
    }
    this.button.title = title;
    this.button.setAttribute('aria-label', `${text}. ${title}`);
    this.button.dataset['state'] = this.pulse.state.stack ?? 'away';
    this.button.dataset['asks'] = String(this.pulse.state.pendingRequests > 0);
  }
}

/** The item's words. */
export function statusText(
  state: PulseState,
  { trans }: Pick<PanelContext, 'trans'>
): { text: string; title: string } {
  if (state.stack === '') {
    return { text: trans.__('Rootbound'), title: trans.__('Open services and confinement') };
  }
  if (state.stack === null) {
    return {
      text: trans.__('Rootbound: no answer'),
      title: trans.__('The server does not answer; trying again')
    };
  }
  if (state.stack !== 'ready') {
    if (state.stack === 'failed') {
      return {
        text: trans.__('Rootbound: failed'),
        title: trans.__('The services did not start; open them to see why')
      };
    }
    const text =
      state.stack === 'starting' ? trans.__('Rootbound: starting') : trans.__('Rootbound: off');
    return { text, title: trans.__('The services are not running') };
  }
  const parts = [trans.__('Rootbound: %1 live', String(state.live.length))];
  if (state.reviews.length > 0) {
    parts.push(trans._n('%1 review', '%1 reviews', state.reviews.length));
  }
  if (state.pendingRequests > 0) {
    parts.push(trans._n('%1 request', '%1 requests', state.pendingRequests));
  }
  const behind = state.lda?.outbox_depth ?? 0;
  if (behind > 0) {
    parts.push(trans._n('%1 report on its way', '%1 reports on their way', behind));
  }
  const tier = state.lda?.sandbox?.tier;
  if (state.lda && !state.lda.reachable) {
    parts.push(trans.__('no local agent'));
  } else if (tier) {
    parts.push(trans.__('tier %1', tier));
  }
  const missing = state.lda?.sandbox?.missing ?? [];
  const title = missing.length > 0 ? missing.join(' ') : trans.__('Open services and confinement');
  return { text: parts.join(' · '), title };
}

/** Put the item into the status bar. */
export function addStatusItem(
  bar: IStatusBar,
  item: StatusItem,
  isActive: () => boolean,
  pulse: Pulse
): void {
  bar.registerStatusItem('rootbound:status', {
    item,
    align: 'left',
    rank: 60,
    isActive,
    activeStateChanged: pulse.changed as never
  });
}
