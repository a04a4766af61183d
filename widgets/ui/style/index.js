// What stands in Lab before a panel is opened; `index.css` is fetched with the first panel.
import './lab.css';
