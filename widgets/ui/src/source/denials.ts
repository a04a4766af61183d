import type { AccessQuery, Task } from '../model/types';
import type { Dispose, Source } from './source';

// A denial is shown at once. Any other change of a card may be a decision made elsewhere; a busy
// run changes its card many times a second, and one look answers all of them.
const DENIED_MS = 100;
const CHANGED_MS = 1000;
const RETRY_MS = 2000;
// Without a scope every project is followed, within reason.
const MAX_PROJECTS = 20;

/**
 * Hear of denials and decisions through the projects' boards: both change the task's card.
 *
 * @param source Names the projects and follows them.
 * @param scope The attempt or project that matters; nothing for all.
 * @param callback Told whether there are new denials.
 */
export function watchDenials(
  source: Source,
  scope: AccessQuery,
  callback: (denied: boolean) => void
): Dispose {
  const stops: Dispose[] = [];
  const counts = new Map<string, number>();
  let disposed = false;
  let denied: ReturnType<typeof setTimeout> | undefined;
  let changed: ReturnType<typeof setTimeout> | undefined;
  const look = (isDenial: boolean): void => {
    if (isDenial) {
      denied ??= setTimeout(() => {
        denied = undefined;
        callback(true);
      }, DENIED_MS);
    } else {
      changed ??= setTimeout(() => {
        changed = undefined;
        callback(false);
      }, CHANGED_MS);
    }
  };
  /** Note an attempt's denials; true when they are more than was known. */
  const grew = (task: Task): boolean => {
    const attempt = task.latest_attempt;
    const before = attempt ? counts.get(attempt.id) : undefined;
    if (attempt) {
      counts.set(attempt.id, attempt.denied_count);
    }
    return (attempt?.denied_count ?? 0) > (before ?? 0);
  };
  const concerns = (task: Task): boolean =>
    task.latest_attempt !== null &&
    (scope.attempt === undefined || task.latest_attempt.id === scope.attempt);
  const follow = (projectId: string): void => {
    let first = true;
    stops.push(
      source.watchTasks(projectId, {
        snapshot: tasks => {
          const more = tasks.filter(concerns).map(grew).includes(true);
          // The first one may be younger than what the view has read; a later one ends a gap.
          if (more || !first) {
            look(more);
          }
          first = false;
        },
        task: task => {
          if (concerns(task)) {
            look(grew(task));
          }
        },
        deleted: () => undefined,
        link: () => undefined,
        failed: () => undefined
      })
    );
  };
  let retry: ReturnType<typeof setTimeout> | undefined;
  const begin = (): void => {
    projectsOf(source, scope).then(
      ids => {
        if (!disposed) {
          ids.forEach(follow);
        }
      },
      () => {
        // The view's own requests tell what is wrong.
        if (!disposed) {
          retry = setTimeout(begin, RETRY_MS);
        }
      }
    );
  };
  begin();
  return () => {
    disposed = true;
    clearTimeout(retry);
    clearTimeout(denied);
    clearTimeout(changed);
    stops.forEach(stop => stop());
  };
}

async function projectsOf(source: Source, scope: AccessQuery): Promise<string[]> {
  if (scope.project !== undefined) {
    return [scope.project];
  }
  if (scope.attempt !== undefined) {
    return [(await source.getAttempt(scope.attempt)).project];
  }
  const projects = await source.listProjects();
  return projects.slice(0, MAX_PROJECTS).map(project => project.id);
}
