import '../../style/base.css';
import '../../style/work.css';
import '../../style/board.css';

import { mountTaskBoard } from '../mount';
import { widget } from './host';

export default widget('board', (host, source) =>
  mountTaskBoard(host, source, { projectId: source.state.project?.id })
);
