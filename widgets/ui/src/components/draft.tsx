import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';

import { drafts } from '../model/drafts';
import { Button } from './common';
import { useTrans } from './context';

export interface Draft<T> {
  value: T;
  set(value: T): void;
  /** Change what is typed as of now, which may be later than what was drawn. */
  change(how: (old: T) => T): void;
  /** Forget it: it was sent, or is not wanted. */
  clear(): void;
  /** Whether it was typed before this view was opened. */
  isOld: boolean;
}

/**
 * What is typed into a form, kept until it is sent.
 *
 * @param key What the form is for; another key needs another component.
 * @param initial What an untouched form holds; fields that an older draft lacks are taken of it.
 */
export function useDraft<T>(key: string, initial: T): Draft<T> {
  const [kept] = useState(() => drafts.read<T>(key));
  const [value, setValue] = useState<T>(() => (kept === undefined ? initial : merged(initial, kept)));
  const latest = useRef(value);
  const [isOld, setOld] = useState(kept !== undefined);
  const take = (next: T): void => {
    latest.current = next;
    setValue(next);
  };
  const set = (next: T): void => {
    drafts.write(key, next);
    take(next);
  };
  return {
    value,
    isOld,
    set,
    change: how => set(how(latest.current)),
    clear: () => {
      drafts.remove(key);
      take(initial);
      setOld(false);
    }
  };
}

function merged<T>(initial: T, kept: T): T {
  return typeof initial === 'object' && typeof kept === 'object' ? { ...initial, ...kept } : kept;
}

/** Says that a form holds what was typed earlier, and offers to throw that away. */
export function DraftNote({ draft }: { draft: Draft<unknown> }): JSX.Element | null {
  const trans = useTrans();
  return draft.isOld ? (
    <p class="jp-rootbound-Muted" role="status">
      {trans.__('This is what you typed before.')}{' '}
      <Button onClick={() => draft.clear()}>{trans.__('Discard it')}</Button>
    </p>
  ) : null;
}
