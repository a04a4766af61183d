/** A project's board of any size: the server that the page plays for it. */
import type { Task } from '../../widgets/ui/src/model/types';

const ROLES = ['BACKEND', 'FRONTEND', 'QA', 'DEVOPS'] as const;

/** Tasks as a long-lived project has them: most to do or done, every fifth waits for the one before. */
export function tasksOf(count: number): Task[] {
  return Array.from({ length: count }, (_, index) => {
    const id = `task-${index}`;
    const share = index / count;
    const waits = index % 5 === 4 && share < 0.7;
    return {
      id,
      project: 'p',
      title: `Task ${index} ${'of several words '.repeat(index % 4)}`.trim(),
      description: `What task ${index} is about.`,
      status: share < 0.7 ? 'TODO' : share < 0.71 ? 'IN_PROGRESS' : share < 0.75 ? 'REVIEW' : 'DONE',
      priority: count - index,
      agent_role: ROLES[index % ROLES.length] ?? 'BACKEND',
      dependencies: waits ? [`task-${index - 1}`] : [],
      blocked_by: waits ? [`task-${index - 1}`] : [],
      auto_start: false,
      version: 1,
      created_at: '2026-01-01T00:00:00Z',
      latest_attempt: null
    };
  });
}

/** The backend's end of a board. */
export class BoardSocket {
  static tasks: Task[] = [];
  static last: BoardSocket | null = null;
  readonly readyState = 1;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((event: unknown) => void) | null = null;

  constructor() {
    BoardSocket.last = this;
    setTimeout(() => this.frame({ type: 'snapshot', tasks: BoardSocket.tasks }));
  }

  /** Tell of a change of one task, as somebody else makes it. */
  change(index: number, fields: Partial<Task>): void {
    const task = { ...BoardSocket.tasks[index], ...fields } as Task;
    BoardSocket.tasks[index] = task;
    this.frame({ type: 'task', task });
  }

  send(): void {
    // Acknowledgements; this server does not wait for them.
  }

  close(): void {
    this.onclose = null;
  }

  private frame(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}
