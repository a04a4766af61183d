import '../../style/base.css';
import '../../style/work.css';
import '../../style/board.css';

import { mountTaskBoard } from '../mount';
import { HttpWork } from '../source/work';
import { widget } from './host';

export default widget('board', (host, source, options) =>
  mountTaskBoard(host, source, {
    ...options,
    projectId: source.state.project?.id,
    isOfOneProject: true,
    work: new HttpWork(source.transport)
  })
);
