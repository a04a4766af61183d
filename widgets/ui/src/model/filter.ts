import type { AuditQuery } from './types';

/** What narrows the rows; a scope (attempt, project) is none of it. */
export const FILTERS = [
  'operation',
  'result',
  'path_prefix',
  'glob',
  'program',
  'source',
  'since',
  'until'
] as const satisfies readonly (keyof AuditQuery)[];

/** Whether two filters choose the same rows; their scope is not compared. */
export function sameFilter(one: AuditQuery, other: AuditQuery): boolean {
  return FILTERS.every(name => (one[name] ?? '') === (other[name] ?? ''));
}
