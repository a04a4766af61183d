import { LabIcon } from '@jupyterlab/ui-components';

/** A sprout whose roots end at a line: growth that stays within bounds. */
export const rootboundIcon = new LabIcon({
  name: 'rootbound:icon',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3 jp-icon-selectable" fill="#616161">
    <path d="M11.2 13V9.6C8 9.6 5.4 7.6 5 4.2c3.2-.3 5.6 1 6.6 3.4C12.3 4.6 15 2.6 19 2.8c.1 4-2.3 6.8-6.2 6.9V13z"/>
    <path d="M3 12.2h18v1.7H3z"/>
    <path d="M11.2 14.5h1.6V18l3 2.7-1.1 1.2-2.7-2.4-2.7 2.4-1.1-1.2 3-2.7z"/>
    <path d="M4 14.5h1.6v5.9H4zM18.4 14.5H20v5.9h-1.6z"/>
  </g>
</svg>`
});
