import { type ComponentChildren, type JSX, type RefObject, type VNode, cloneElement } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import type { ProblemError } from '../model/problem';

import { Button } from './common';
import { useTrans } from './context';

// Preact's own ids are unique in one view only, and a page shows several.
const PAGE = Math.random().toString(36).slice(2, 8);
let count = 0;

/** An id that no other element of the page has. */
export function useElementId(): string {
  const [id] = useState(() => `jp-rootbound-${PAGE}-${(count += 1)}`);
  return id;
}

interface FieldProps {
  label: string;
  /** What is wrong with it, in a sentence. */
  error?: string | undefined;
  /** Takes more of a row than others. */
  wide?: boolean;
  children: VNode;
}

/** One labelled input of a form, and what the server has against what is in it. */
export function Field({ label, error, wide, children }: FieldProps): JSX.Element {
  const id = useElementId();
  return (
    <div class={`jp-rootbound-FieldBox${wide ? ' jp-mod-wide' : ''}`}>
      <label class="jp-rootbound-Field">
        <span>{label}</span>
        {cloneElement(children, invalid(id, error))}
      </label>
      <FieldError id={id} error={error} />
    </div>
  );
}

/** What ties an input to the sentence about it. */
export interface Invalid {
  'aria-invalid'?: true;
  'aria-describedby'?: string;
}

export function invalid(id: string, error: string | undefined): Invalid {
  return error === undefined ? {} : { 'aria-invalid': true, 'aria-describedby': id };
}

export function FieldError({
  id,
  error
}: {
  id: string;
  error: string | undefined;
}): JSX.Element | null {
  return error === undefined ? null : (
    <p class="jp-rootbound-FieldError" id={id} role="alert">
      {error}
    </p>
  );
}

/** Of a refused form: the sentence about each field, and what belongs to none. */
export interface Refusal {
  /** The sentence about the first of these names that there is one about. */
  of(...names: string[]): string | undefined;
  /** The problem, where no field of the form shows it. */
  rest: ProblemError | null;
}

/**
 * Sort a problem by the fields of a form.
 *
 * @param names Names, on the wire, of all fields that the form shows.
 */
export function refusal(problem: ProblemError | null, names: readonly string[]): Refusal {
  const fields = new Map(problem?.fields ?? []);
  // A folder that cannot be granted or used has a code of its own instead of a field.
  if (problem && fields.size === 0 && /^(root|repo)-/.test(problem.code)) {
    fields.set('path', problem.detail);
  }
  if (problem && fields.size === 0 && problem.code === 'base-unknown') {
    fields.set('default_branch', problem.detail);
  }
  const shown = [...fields.keys()].some(name => names.includes(name));
  return {
    of: (...wanted) => wanted.map(name => fields.get(name)).find(text => text !== undefined),
    rest: shown ? null : problem
  };
}

/** Put the keyboard into the first field that was refused. */
export function useFirstInvalid(problem: unknown): RefObject<HTMLFormElement | null> {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [problem]);
  return form;
}

/** Take the keyboard into a form that opens, and back to where it was when the form goes. */
function useKeyboard(form: RefObject<HTMLFormElement | null>): void {
  useLayoutEffect(() => {
    const opened = form.current;
    const before = document.activeElement;
    if (opened && !opened.contains(before)) {
      opened.querySelector<HTMLElement>('input, textarea, select')?.focus();
    }
    return () => {
      if (opened?.contains(document.activeElement) && before instanceof HTMLElement) {
        before.focus();
      }
    };
  }, []);
}

interface ChooseFolderProps {
  pickFolder: (() => Promise<string | null>) | undefined;
  onChosen(path: string): void;
}

/** A button for the host's own folder dialog, where it has one. */
export function ChooseFolder({ pickFolder, onChosen }: ChooseFolderProps): JSX.Element | null {
  const trans = useTrans();
  if (!pickFolder) {
    return null;
  }
  return (
    <Button
      onClick={() => {
        void pickFolder().then(chosen => {
          if (chosen !== null) {
            onChosen(chosen);
          }
        });
      }}
    >
      {trans.__('Choose…')}
    </Button>
  );
}

interface DrawerProps {
  label: string;
  /** Why it was refused: its first refused field gets the keyboard. */
  problem?: ProblemError | null;
  children: ComponentChildren;
  onClose(): void;
  onSubmit(): void;
}

/** A form that slides in above a view; Escape closes it, and the view's own keys rest. */
export function Drawer(props: DrawerProps): JSX.Element {
  const { label, problem = null, children, onClose, onSubmit } = props;
  const form = useFirstInvalid(problem);
  useKeyboard(form);
  return (
    <form
      ref={form}
      class="jp-rootbound-Drawer jp-rootbound-Form"
      aria-label={label}
      onSubmit={event => {
        event.preventDefault();
        onSubmit();
      }}
      onKeyDown={event => {
        event.stopPropagation();
        if (event.key === 'Escape') {
          onClose();
        }
      }}
    >
      {/* The form has it as its name already. */}
      <strong aria-hidden="true">{label}</strong>
      {children}
    </form>
  );
}

interface SubmitProps {
  children: ComponentChildren;
  disabled: boolean;
  kind?: 'primary' | 'danger';
}

export function Submit({ children, disabled, kind = 'primary' }: SubmitProps): JSX.Element {
  return (
    <button type="submit" class={`jp-rootbound-Button jp-mod-${kind}`} disabled={disabled}>
      {children}
    </button>
  );
}

interface ChoicesProps {
  label: string;
  error?: string | undefined;
  options: readonly { key: string; title: string }[];
  chosen: readonly string[];
  onChange(chosen: string[]): void;
}

/** Several of many, folded until wanted. */
export function Choices(props: ChoicesProps): JSX.Element | null {
  const { label, error, options, chosen, onChange } = props;
  const id = useElementId();
  if (options.length === 0) {
    return null;
  }
  const names = options.filter(one => chosen.includes(one.key)).map(one => one.title);
  return (
    <div class="jp-rootbound-FieldBox">
      <details class="jp-rootbound-Choices" open={error !== undefined ? true : undefined}>
        <summary aria-describedby={error === undefined ? undefined : id}>
          {label}
          {names.length > 0 && `: ${names.join(', ')}`}
        </summary>
        <ul role="list">
          {options.map(({ key, title }) => (
            <li key={key}>
              <label>
                <input
                  type="checkbox"
                  checked={chosen.includes(key)}
                  onChange={event =>
                    onChange(
                      event.currentTarget.checked
                        ? [...chosen, key]
                        : chosen.filter(one => one !== key)
                    )
                  }
                />{' '}
                {title}
              </label>
            </li>
          ))}
        </ul>
      </details>
      <FieldError id={id} error={error} />
    </div>
  );
}
