import { createContext } from 'preact';
import { useContext } from 'preact/hooks';

import { type Trans, plainTrans } from '../model/trans';

/** The translation bundle of the host. */
export const TransContext = createContext<Trans>(plainTrans);

export function useTrans(): Trans {
  return useContext(TransContext);
}
