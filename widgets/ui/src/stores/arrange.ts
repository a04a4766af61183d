/** Which tasks a board shows, in what order and under which headings. */
import type { Task, TaskStatus } from '../model/types';
import { type AgentRole } from '../model/types';

export type Grouping = 'priority' | 'role' | 'order';

export interface Group {
  /** Null where the column has no headings. */
  heading: AgentRole | number | null;
  tasks: readonly Task[];
}

export function byPriority(one: Task, other: Task): number {
  // Times of one server, in one form: as texts they compare as they are.
  return other.priority - one.priority || compare(one.created_at, other.created_at);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Whether every word is in the task's title, description or role. */
export function matches(task: Task, words: readonly string[]): boolean {
  const text = `${task.title}\n${task.description}\n${task.agent_role}`.toLowerCase();
  return words.every(word => text.includes(word));
}

/** How many tasks stand in a row before each one, the longest way; 0 for those that wait for none. */
export function depths(tasks: ReadonlyMap<string, Task>): ReadonlyMap<string, number> {
  const known = new Map<string, number>();
  const depth = (id: string, trail: ReadonlySet<string>): number => {
    const found = known.get(id);
    const task = tasks.get(id);
    // The server refuses cycles; a half-delivered state must still not hang the page.
    if (found !== undefined || !task || trail.has(id)) {
      return found ?? 0;
    }
    const further = new Set(trail).add(id);
    const before = task.dependencies.filter(one => tasks.has(one));
    const value = before.length
      ? 1 + Math.max(...before.map(one => depth(one, further)))
      : 0;
    known.set(id, value);
    return value;
  };
  for (const id of tasks.keys()) {
    depth(id, new Set());
  }
  return known;
}

/** Put a column's tasks under headings. */
export function grouped(
  tasks: readonly Task[],
  grouping: Grouping,
  depth: ReadonlyMap<string, number>
): Group[] {
  const sorted = [...tasks].sort(byPriority);
  if (grouping === 'priority') {
    return sorted.length ? [{ heading: null, tasks: sorted }] : [];
  }
  const groups = new Map<AgentRole | number, Task[]>();
  for (const task of sorted) {
    const heading = grouping === 'role' ? task.agent_role : (depth.get(task.id) ?? 0);
    const found = groups.get(heading);
    if (found) {
      found.push(task);
    } else {
      groups.set(heading, [task]);
    }
  }
  return [...groups]
    .sort(([one], [other]) =>
      typeof one === 'number' && typeof other === 'number'
        ? one - other
        : String(one).localeCompare(String(other))
    )
    .map(([heading, found]) => ({ heading, tasks: found }));
}

export type Move = 'start' | 'cancel' | 'approve' | 'reject';

/** What moving a card into a column means; null where nothing does it. */
export function moveOf(task: Task, to: TaskStatus, isBlocked: boolean): Move | null {
  switch (`${task.status} ${to}`) {
    case 'TODO IN_PROGRESS':
      return isBlocked ? null : 'start';
    case 'IN_PROGRESS TODO':
      return 'cancel';
    case 'REVIEW DONE':
      return 'approve';
    case 'REVIEW TODO':
      return 'reject';
    default:
      return null;
  }
}
