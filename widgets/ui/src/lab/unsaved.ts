import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { DocumentRegistry } from '@jupyterlab/docregistry';

import type { FilePlaces } from './files';
import type { Pulse } from './pulse';
import type { LabTransport } from './transport';

/** A report holds for 150 s; a browser lets a hidden page speak once a minute. */
const PERIOD_MS = 30_000;
const MAX_PATHS = 200;
const SOON_MS = 100;
const AREAS = ['main', 'left', 'right', 'down'];
const PATH = 'api/local-access/unsaved/?no_track_activity=1';

/**
 * Tells the backend which documents have unsaved changes, so that no agent and no merge changes
 * their files meanwhile. It speaks when that changes, and again for as long as there are any.
 */
export class UnsavedReports {
  // One for each page: two of them report beside each other.
  private readonly editor = crypto.randomUUID?.() ?? `page-${Math.random().toString(36).slice(2)}`;
  private readonly seen = new WeakSet<DocumentRegistry.Context>();
  private said = '[]';
  private saidAt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private working: Promise<void> = Promise.resolve();

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly documents: IDocumentManager,
    private readonly places: FilePlaces,
    private readonly transport: LabTransport,
    private readonly pulse: Pulse
  ) {}

  start(): void {
    const soon = (): void => this.soon();
    this.app.shell.currentChanged?.connect(soon);
    // Also when the services have come up, and every few seconds while they are.
    this.pulse.changed.connect(soon);
    window.addEventListener('pagehide', () => {
      if (this.said !== '[]') {
        void this.tell([], { keepalive: true }).catch(() => undefined);
        this.said = '[]';
      }
    });
    this.soon();
  }

  /** Look in a moment; what changes together is told together. */
  private soon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.working = this.working.then(() => this.look()).catch(() => undefined);
    }, SOON_MS);
  }

  private async look(): Promise<void> {
    const dirty: string[] = [];
    for (const context of this.contexts()) {
      this.follow(context);
      if (context.model.dirty) {
        const path = await this.places.onMachine(context.path);
        if (path !== null) {
          dirty.push(path);
        }
      }
    }
    // The server takes no more; whoever has that many open can be asked to save some.
    dirty.sort().splice(MAX_PATHS);
    const now = JSON.stringify(dirty);
    const due = dirty.length > 0 && Date.now() - this.saidAt > PERIOD_MS;
    // Nobody works without the services, and a report is no reason to start them.
    if ((now !== this.said || due) && this.pulse.state.stack === 'ready') {
      await this.tell(dirty);
      this.said = now;
      this.saidAt = Date.now();
    }
  }

  private contexts(): Set<DocumentRegistry.Context> {
    const found = new Set<DocumentRegistry.Context>();
    for (const area of AREAS) {
      for (const widget of this.widgets(area)) {
        const context = this.documents.contextForWidget(widget);
        if (context && !context.isDisposed) {
          found.add(context);
        }
      }
    }
    return found;
  }

  private widgets(area: string): ReturnType<JupyterFrontEnd.IShell['widgets']> | [] {
    try {
      return this.app.shell.widgets(area);
    } catch {
      // Another shell, such as Notebook's, has other areas.
      return [];
    }
  }

  private follow(context: DocumentRegistry.Context): void {
    if (this.seen.has(context)) {
      return;
    }
    this.seen.add(context);
    context.model.stateChanged.connect((_, change) => {
      if (change.name === 'dirty') {
        this.soon();
      }
    });
    context.pathChanged.connect(() => this.soon());
    context.disposed.connect(() => this.soon());
  }

  private async tell(paths: readonly string[], init?: RequestInit): Promise<void> {
    await this.transport.request('POST', PATH, { editor: this.editor, paths }, init);
  }
}
