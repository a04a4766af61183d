/** Style sheets are imported for their effect; the bundlers see to them. */
declare module '*.css';
