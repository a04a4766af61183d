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

/** A language pack's messages, as a kernel hands them over. */
export interface Catalogue {
  /** The forms of each message by its English one. */
  readonly messages: { readonly [message: string]: readonly string[] };
  /** Which form a count takes, for the counts from 0; later ones go by their last two digits. */
  readonly plurals: readonly number[];
}

/** A catalogue as a translation bundle; what it lacks is said in English. */
export function catalogueTrans({ messages, plurals }: Catalogue): Trans {
  const known = new Map(Object.entries(messages));
  const formOf = (count: number): number => {
    const last = plurals.length - 100;
    return plurals[count < plurals.length ? count : last + (count % 100)] ?? 0;
  };
  return {
    __: (message, ...args) => fill(known.get(message)?.[0] || message, args),
    _n: (singular, plural, count, ...args) => {
      const form = known.get(singular)?.[formOf(Math.abs(Math.trunc(count)))];
      return fill(form || (count === 1 ? singular : plural), [count, ...args]);
    }
  };
}

/** The language of the page, as its host says it: `de-DE`; empty when it does not. */
export function pageLanguage(): string {
  return globalThis.document?.documentElement.lang ?? '';
}

/** English as written: notebook widgets without a language pack. */
export const plainTrans: Trans = {
  __: (message, ...args) => fill(message, args),
  _n: (singular, plural, count, ...args) => fill(count === 1 ? singular : plural, [count, ...args])
};
