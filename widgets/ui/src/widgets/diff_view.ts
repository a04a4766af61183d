import '../../style/base.css';
import '../../style/work.css';
import '../../style/diff.css';
import '../../style/stack.css';

import { mountDiffView } from '../mount';
import { mountReview } from '../mount_review';
import { ProblemError } from '../model/problem';
import type { ModelSource } from '../source/modelsource';
import type { Transport } from '../source/transport';
import { HttpWork } from '../source/work';
import { widget } from './host';

export default widget('diff', (host, source, options, model) => {
  const { attempt } = source.state;
  return model.get('review') && attempt
    ? mountReview(host, new HttpWork(kept(source)), attempt.id, { ...options, live: source.live })
    : mountDiffView(host, source, '', options);
});

/** What the Python side answers; in a saved notebook without a kernel, what was saved. */
function kept(source: ModelSource): Transport {
  return {
    ...source.transport,
    request: async (method, path, body) => {
      await source.greeted;
      if (source.live.value || method !== 'GET') {
        return source.transport.request(method, path, body);
      }
      const { attempt, diff } = source.state;
      if (path.endsWith('/diff/') && diff) {
        return diff;
      }
      if (path === `api/attempts/${attempt?.id}/`) {
        return attempt;
      }
      throw new ProblemError('This is a snapshot; run the cell again to act on it.', 'snapshot');
    }
  };
}
