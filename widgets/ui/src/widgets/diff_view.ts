import '../../style/base.css';
import '../../style/work.css';
import '../../style/diff.css';

import { mountDiffView } from '../mount';
import { widget } from './host';

export default widget('diff', (host, source, options) =>
  mountDiffView(host, source, '', options)
);
