import '../../style/base.css';
import '../../style/stack.css';
import '../../style/cost.css';

import { signal } from '@preact/signals';

import type { CostChoice, CostGroup, CostMeasure } from '../components/cost';
import { ProblemError } from '../model/problem';
import { mountCost } from '../mount_cost';
import { widget } from './host';

export default widget('cost', (host, source, { trans }, model) => {
  const read = (): CostChoice => ({
    group: (model.get('group') ?? 'project') as CostGroup,
    measure: (model.get('measure') ?? 'auto') as CostMeasure
  });
  const choice = signal(read());
  const reread = (): void => {
    choice.value = read();
  };
  model.on('change:group', reread);
  model.on('change:measure', reread);
  const unmount = mountCost(
    host,
    async () => {
      const { costs } = source.state;
      if (!costs) {
        throw new ProblemError('The costs are not known yet.', 'no-costs');
      }
      return costs;
    },
    {
      trans,
      live: source.live,
      choice,
      onChoice: ({ group, measure }) => {
        model.set?.('group', group);
        model.set?.('measure', measure);
        model.save_changes?.();
      },
      onChange: callback => source.onChange(callback)
    }
  );
  return () => {
    model.off('change:group', reread);
    model.off('change:measure', reread);
    unmount();
  };
});
