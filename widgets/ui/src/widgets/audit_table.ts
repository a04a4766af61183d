import '../../style/base.css';
import '../../style/access.css';
import '../../style/audit.css';

import { mountAuditTable } from '../mount';
import { widget } from './host';

export default widget('audit', (host, source, options) =>
  mountAuditTable(host, source, {}, options)
);
