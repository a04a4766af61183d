import type { Message } from '@lumino/messaging';
import { TabPanel, Widget } from '@lumino/widgets';

import {
  mountAttemptStream,
  mountAuditTable,
  mountDiffView,
  mountStackStatus,
  mountTaskBoard
} from '../mount';
import type { Trans } from '../model/trans';
import type { Dispose, Source } from '../source/source';
import { rootboundIcon } from './icons';

/**
 * A Lumino widget around one view.
 *
 * The view is mounted when first shown, so that a hidden panel asks the server for nothing.
 */
export class ViewPanel extends Widget {
  private unmount: Dispose | null = null;

  constructor(
    kind: string,
    private readonly fill: (host: HTMLElement) => Dispose
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

  private mountOnce(): void {
    this.unmount ??= this.fill(this.node);
  }
}

/** What the panels share: the server, the language, and the ways to other panels. */
export interface PanelContext {
  source: Source;
  trans: Trans;
  openAttempt(attemptId: string): void;
  openAudit(projectId: string): void;
}

export function boardPanel(context: PanelContext): ViewPanel {
  return new ViewPanel('board', host => mountTaskBoard(host, context.source, context));
}

/** An attempt's stream, changes and audit, as tabs. */
export function attemptPanel(context: PanelContext, attemptId: string): TabPanel {
  const { source, trans } = context;
  const panel = new TabPanel();
  panel.addClass('jp-rootbound-Tabs');
  const tabs: [string, ViewPanel][] = [
    [
      trans.__('Stream'),
      new ViewPanel('stream', host => mountAttemptStream(host, source, attemptId, { trans }))
    ],
    [
      trans.__('Changes'),
      new ViewPanel('diff', host => mountDiffView(host, source, attemptId, { trans }))
    ],
    [
      trans.__('Audit'),
      new ViewPanel('audit', host =>
        mountAuditTable(host, source, { attempt: attemptId }, { trans })
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
  return new ViewPanel('audit', host => mountAuditTable(host, source, scope, { trans }));
}

export function stackPanel(context: PanelContext): ViewPanel {
  const { source, trans } = context;
  return new ViewPanel('stack', host => mountStackStatus(host, source, { trans }));
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
