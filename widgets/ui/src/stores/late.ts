import type { ProblemError } from '../model/problem';
import type { AttemptStatus } from '../model/types';

/** A decision that somebody else came before. */
export interface Late {
  problem: ProblemError;
  /** The attempt's status as the decider saw it; null when it was not there yet. */
  status: AttemptStatus | null;
}
