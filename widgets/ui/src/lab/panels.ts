import { MainAreaWidget } from '@jupyterlab/apputils';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Message } from '@lumino/messaging';
import { TabPanel, Widget } from '@lumino/widgets';
import { signal } from '@preact/signals';

import type { CostChoice } from '../components/cost';
import type { GuideHooks } from '../components/guide';
import type { ScheduleHooks } from '../components/schedules';
import type { Trans } from '../model/trans';
import type { Attempt } from '../model/types';
import type { Machine } from '../source/machine';
import type { Schedules } from '../source/schedules';
import type { Work } from '../source/work';
import type { Dispose, Source } from '../source/source';
import { rootboundIcon } from './icons';

const DAY_MS = 86_400_000;

// The views are fetched when one is first shown: opening Lab costs what the commands cost.
const views = (): Promise<typeof import('../mount')> => import('../mount');
const machineViews = (): Promise<typeof import('../mount_machine')> =>
  import('../mount_machine');
const styles = (): Promise<unknown> => import('../../style/index.css');

/**
 * A Lumino widget around one view.
 *
 * The view is mounted when first shown, so that a hidden panel asks the server for nothing.
 */
export class ViewPanel extends Widget {
  private unmount: Dispose | null = null;
  private isMounting = false;

  constructor(
    kind: string,
    private readonly fill: (host: HTMLElement) => Promise<Dispose>
  ) {
    super();
    this.addClass('jp-rootbound-Panel');
    this.addClass(`jp-mod-${kind}`);
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.unmount?.();
      this.unmount = null;
    }
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.mountOnce();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this.mountOnce();
    }
  }

  /** Give the keyboard to the view, as Lab expects of an activated panel. */
  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    const first = this.node.querySelector<HTMLElement>(
      'button:not(:disabled), select, input, [tabindex="0"]'
    );
    (first ?? this.node).focus();
  }

  private mountOnce(): void {
    if (this.isMounting) {
      return;
    }
    this.isMounting = true;
    // Its style first: a view measures its rows as it mounts.
    const mounted = styles().then(() => this.fill(this.node));
    mounted.then(
      unmount => {
        if (this.isDisposed) {
          unmount();
        } else {
          this.unmount = unmount;
        }
      },
      () => {
        // The server went away before the view's code came; showing it again tries again.
        this.isMounting = false;
      }
    );
  }
}

/** What the panels share: the server, the language, and the ways to other panels. */
export interface PanelContext extends GuideHooks, ScheduleHooks {
  source: Source;
  machine: Machine;
  work: Work;
  schedules: Schedules;
  trans: Trans;
  openAttempt(attemptId: string): void;
  openAudit(projectId: string): void;
  openBoard(): void;
  openStatus(): void;
  openRoots(): void;
  openSchedules(): void;
  openGuide(): void;
}

/** The command that shows a panel in the main area, and its arguments: what a layout keeps. */
export interface PanelPlace {
  command: string;
  args: ReadonlyPartialJSONObject;
}

/** A panel of the main area that knows how it is opened again after a reload. */
export class MainPanel extends MainAreaWidget {
  constructor(
    content: Widget,
    id: string,
    readonly place: PanelPlace
  ) {
    super({ content });
    this.toolbar.hide();
    this.id = id;
    this.title.icon = content.title.icon;
    this.title.label = content.title.label;
    this.title.caption = content.title.caption;
    this.title.closable = true;
  }
}

export function boardPanel(context: PanelContext): ViewPanel {
  return new ViewPanel('board', async host =>
    (await views()).mountTaskBoard(host, context.source, context)
  );
}

/** An attempt's stream, changes and audit, as tabs; `named` hears which attempt it is. */
export function attemptPanel(
  context: PanelContext,
  attemptId: string,
  named: (attempt: Attempt) => void
): TabPanel {
  const { source, trans, work } = context;
  const panel = new TabPanel();
  panel.addClass('jp-rootbound-Tabs');
  const tabs: [string, ViewPanel][] = [
    [
      trans.__('Stream'),
      new ViewPanel('stream', async host =>
        (await views()).mountAttemptStream(host, source, attemptId, { ...context, named })
      )
    ],
    [
      trans.__('Review'),
      new ViewPanel('diff', async host =>
        (await import('../mount_review')).mountReview(host, work, attemptId, context)
      )
    ],
    [
      trans.__('Audit'),
      new ViewPanel('audit', async host =>
        (await views()).mountAuditTable(host, source, { attempt: attemptId }, { trans })
      )
    ]
  ];
  for (const [label, view] of tabs) {
    view.title.label = label;
    panel.addWidget(view);
  }
  return panel;
}

export function auditPanel(context: PanelContext, projectId: string | null): ViewPanel {
  const { source, trans } = context;
  const scope = projectId === null ? {} : { project: projectId };
  return new ViewPanel('audit', async host =>
    (await views()).mountAuditTable(host, source, scope, { trans })
  );
}

export function stackPanel(context: PanelContext): ViewPanel {
  return new ViewPanel('stack', async host =>
    (await views()).mountStackStatus(host, context.source, context)
  );
}

export function rootsPanel(context: PanelContext): ViewPanel {
  const { source, machine } = context;
  return new ViewPanel('roots', async host =>
    (await machineViews()).mountRoots(host, source, machine, context)
  );
}

export function costPanel(context: PanelContext): ViewPanel {
  const { machine, source, trans } = context;
  return new ViewPanel('cost', async host => {
    const { mountCost } = await import('../mount_cost');
    const since = (days: number): string => localDay(Date.now() - (days - 1) * DAY_MS);
    return mountCost(host, days => machine.costs({ since: since(days) }), {
      trans,
      live: source.live,
      choice: signal<CostChoice>({ group: 'project', measure: 'auto' }),
      hasSpan: true
    });
  });
}

export function schedulesPanel(context: PanelContext): ViewPanel {
  return new ViewPanel('schedules', async host =>
    (await import('../mount_schedules')).mountSchedules(host, context.schedules, context)
  );
}

export function guidePanel(context: PanelContext): ViewPanel {
  return new ViewPanel('guide', async host =>
    (await machineViews()).mountGuide(host, context.machine, context)
  );
}

/** The day on the reader's calendar. */
function localDay(time: number): string {
  const date = new Date(time);
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Give a panel its place in the shell: id, icon and words. */
export function label<T extends Widget>(panel: T, id: string, title: string, caption: string): T {
  panel.id = id;
  panel.title.icon = rootboundIcon;
  panel.title.label = title;
  panel.title.caption = caption;
  panel.title.closable = true;
  return panel;
}
