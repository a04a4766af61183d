import './base.css';
import './board.css';
import './stream.css';
import './access.css';
import './audit.css';
import './diff.css';
import './stack.css';
import './lab.css';
