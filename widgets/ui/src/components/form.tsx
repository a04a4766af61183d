import type { ComponentChildren, JSX } from 'preact';

import { Button } from './common';
import { useTrans } from './context';

/** One labelled input of a form. */
export function Field({
  label,
  children
}: {
  label: string;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <label class="jp-rootbound-Field">
      <span>{label}</span>
      {children}
    </label>
  );
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
  children: ComponentChildren;
  onClose(): void;
  onSubmit(): void;
}

/** A form that slides in above a view; Escape closes it, and the view's own keys rest. */
export function Drawer({ label, children, onClose, onSubmit }: DrawerProps): JSX.Element {
  return (
    <form
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
  options: readonly { key: string; title: string }[];
  chosen: readonly string[];
  onChange(chosen: string[]): void;
}

/** Several of many, folded until wanted. */
export function Choices({ label, options, chosen, onChange }: ChoicesProps): JSX.Element | null {
  if (options.length === 0) {
    return null;
  }
  const names = options.filter(one => chosen.includes(one.key)).map(one => one.title);
  return (
    <details class="jp-rootbound-Choices">
      <summary>
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
  );
}
