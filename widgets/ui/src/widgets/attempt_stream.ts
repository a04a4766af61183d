import '../../style/base.css';
import '../../style/work.css';
import '../../style/access.css';
import '../../style/stream.css';

import { mountAttemptStream } from '../mount';
import { widget } from './host';

export default widget('stream', (host, source, options) =>
  mountAttemptStream(host, source, source.state.attempt?.id ?? '', options)
);
