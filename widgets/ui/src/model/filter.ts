import type { AuditQuery } from './types';

/** Whether two filters choose the same rows; their scope is not compared. */
export function sameFilter(one: AuditQuery, other: AuditQuery): boolean {
  return (
    one.operation === other.operation &&
    one.result === other.result &&
    one.path_prefix === other.path_prefix
  );
}
