import { type ReadonlySignal, signal } from '@preact/signals';

import { type ProblemError, asProblem } from '../model/problem';
import type { AuditFinding } from '../model/machine';
import type { AuditNode, AuditQuery, AuditTimeline } from '../model/types';
import type { AuditFacts } from '../source/machine';

/** How far a verification is. */
export interface Verification {
  done: boolean;
  runs: number;
  entries: number;
  retained: number;
  findings: readonly AuditFinding[];
}

/** A row of the tree, as shown: its depth, and whether its children are below it. */
export interface TreeRow {
  node: AuditNode;
  depth: number;
  expanded: boolean;
}

const TOP: AuditNode = {
  name: '/', path: '/', is_folder: true, read: 0, write: 0, delete: 0, denied: 0, total: 0
};

/** State of the audit's timeline, its tree of folders, and its verification. */
export class AuditFactsStore {
  readonly timeline = signal<AuditTimeline | null>(null);
  readonly rows = signal<readonly TreeRow[]>([]);
  readonly verification = signal<Verification | null>(null);
  readonly problem = signal<ProblemError | null>(null);

  private readonly children = new Map<string, readonly AuditNode[]>();
  private readonly open = new Set<string>();
  private generation = 0;
  private wants = { timeline: false, tree: false };
  private disposed = false;

  /**
   * @param facts Where they come from.
   * @param scope What the views are about.
   * @param filter What narrows them; they are read again when it changes.
   */
  constructor(
    private readonly facts: AuditFacts,
    private readonly scope: AuditQuery,
    private readonly filter: ReadonlySignal<AuditQuery>
  ) {}

  /** Read again what is shown; what was never shown is not asked for. */
  async reload(): Promise<void> {
    this.generation += 1;
    this.children.clear();
    await Promise.all([
      this.wants.timeline ? this.loadTimeline() : undefined,
      this.wants.tree ? this.loadTree() : undefined
    ]);
  }

  showTimeline(): void {
    if (!this.wants.timeline) {
      this.wants.timeline = true;
      void this.loadTimeline();
    }
  }

  showTree(): void {
    if (!this.wants.tree) {
      this.wants.tree = true;
      void this.loadTree();
    }
  }

  /** Open or close a folder. */
  async toggle(path: string): Promise<void> {
    if (this.open.has(path)) {
      this.open.delete(path);
      this.layOut();
    } else {
      this.open.add(path);
      await this.loadFolder(path);
    }
  }

  /** Recompute the hash chains, part by part, until the end. */
  async verify(): Promise<void> {
    let state: Verification = { done: false, runs: 0, entries: 0, retained: 0, findings: [] };
    this.verification.value = state;
    let cursor: string | null = null;
    try {
      do {
        const part = await this.facts.verify(this.scope, cursor);
        if (this.disposed) {
          return;
        }
        cursor = part.next;
        state = {
          done: cursor === null,
          runs: state.runs + part.runs,
          entries: state.entries + part.entries,
          retained: state.retained + part.retained_away,
          findings: [...state.findings, ...part.findings]
        };
        this.verification.value = state;
      } while (cursor !== null);
    } catch (reason) {
      this.verification.value = null;
      this.problem.value = asProblem(reason);
    }
  }

  dispose(): void {
    this.disposed = true;
    this.generation += 1;
  }

  private get query(): AuditQuery {
    return { ...this.filter.value, ...this.scope };
  }

  private async loadTimeline(): Promise<void> {
    await this.take(this.facts.timeline(this.query), timeline => {
      this.timeline.value = timeline;
    });
  }

  /** Read the top; a top with a single folder says nothing, so such folders open by themselves. */
  private async loadTree(): Promise<void> {
    await this.loadFolder(TOP.path);
    const stillOpen = [...this.open];
    await Promise.all(stillOpen.map(path => this.loadFolder(path)));
    let only = this.only(TOP.path);
    while (only) {
      // One that is open already may hold a single folder since the filter changed.
      if (!this.children.has(only.path)) {
        this.open.add(only.path);
        await this.loadFolder(only.path);
      }
      only = this.only(only.path);
    }
  }

  private only(path: string): AuditNode | null {
    const [first, second] = this.children.get(path) ?? [];
    return first && !second && first.is_folder ? first : null;
  }

  private async loadFolder(path: string): Promise<void> {
    if (!this.children.has(path)) {
      await this.take(this.facts.tree(this.query, path), tree => {
        this.children.set(path, tree.children);
      });
    }
    this.layOut();
  }

  private layOut(): void {
    const rows: TreeRow[] = [];
    const add = (parent: string, depth: number): void => {
      for (const node of this.children.get(parent) ?? []) {
        const expanded = node.is_folder && this.open.has(node.path);
        rows.push({ node, depth, expanded });
        if (expanded) {
          add(node.path, depth + 1);
        }
      }
    };
    add(TOP.path, 0);
    this.rows.value = rows;
  }

  private async take<T>(answer: Promise<T>, use: (value: T) => void): Promise<void> {
    const { generation } = this;
    try {
      const value = await answer;
      // An answer to a filter that is no longer shown is dropped.
      if (generation === this.generation) {
        use(value);
        this.problem.value = null;
      }
    } catch (reason) {
      if (generation === this.generation) {
        const problem = asProblem(reason);
        // While the services start, the table says so already.
        this.problem.value = problem.isPassing ? null : problem;
      }
    }
  }
}
