import '../../style/base.css';
import '../../style/stack.css';

import { mountStackStatus } from '../mount';
import { widget } from './host';

export default widget('stack', (host, source, options) =>
  mountStackStatus(host, source, options)
);
