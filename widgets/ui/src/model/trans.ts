/** The part of JupyterLab's translation bundle that the views use. */
export interface Trans {
  /** Translate a message; `%1`, `%2`... are replaced by the arguments. */
  __(message: string, ...args: (string | number)[]): string;
  /** Translate a message with a count; `%1` is the count. */
  _n(singular: string, plural: string, count: number, ...args: (string | number)[]): string;
}

function fill(message: string, args: readonly (string | number)[]): string {
  return message.replace(/%(\d+)/g, (whole, index: string) => {
    const value = args[Number(index) - 1];
    return value === undefined ? whole : String(value);
  });
}

/** English as written, for hosts without translations (notebook widgets). */
export const plainTrans: Trans = {
  __: (message, ...args) => fill(message, args),
  _n: (singular, plural, count, ...args) => fill(count === 1 ? singular : plural, [count, ...args])
};
