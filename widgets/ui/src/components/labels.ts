import type { ProblemError } from '../model/problem';
import type { AttemptStatus, TaskStatus } from '../model/types';
import type { Trans } from '../model/trans';

/** A task status as the board's column names it. */
export function taskStatusLabel(status: TaskStatus, trans: Trans): string {
  switch (status) {
    case 'TODO':
      return trans.__('To do');
    case 'IN_PROGRESS':
      return trans.__('In progress');
    case 'REVIEW':
      return trans.__('Review');
    case 'DONE':
      return trans.__('Done');
  }
}

export function attemptStatusLabel(status: AttemptStatus, trans: Trans): string {
  switch (status) {
    case 'QUEUED':
      return trans.__('Queued');
    case 'RUNNING':
      return trans.__('Running');
    case 'GATES':
      return trans.__('Checking');
    case 'REVIEW':
      return trans.__('Waiting for review');
    case 'SUCCESS':
      return trans.__('Merged');
    case 'FAILED':
      return trans.__('Failed');
  }
}

/** A problem's sentence: the front end's own in the reader's language, the server's as it came. */
export function sentence(problem: ProblemError, trans: Trans): string {
  if (problem.code === 'agent-missing') {
    // The server's own is for those who write to its API.
    return trans.__(
      'No agent has this role yet. Getting Started makes the agents: enter a model’s key there, then test the agents’ models.'
    );
  }
  if (problem.code === 'gates-missing') {
    return trans.__(
      'Nothing could prove the result, as the project has no commands; give it one that tests it (✎ beside its name on the board).'
    );
  }
  return problem.detail.includes('%') ? problem.detail : trans.__(problem.detail);
}
