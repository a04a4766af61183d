import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { copied } from '../model/clipboard';
import { compact } from '../model/format';
import type { AuditOperation, AuditQuery, AuditResult } from '../model/types';
import type { Source } from '../source/source';
import type { AuditStore } from '../stores/audit';
import type { AuditFactsStore } from '../stores/audit_facts';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { FieldError, invalid, refusal, useElementId } from './form';

const RESULTS: readonly AuditResult[] = ['ALLOWED', 'DENIED'];
const OPERATIONS: readonly AuditOperation[] = ['READ', 'WRITE', 'DELETE'];
const SOURCES = ['tool', 'kernel', 'provisioner'] as const;

interface ToolsProps {
  store: AuditStore;
  facts: AuditFactsStore;
  source: Source;
}

/** Filters that are typed, and can be refused, by their names in the query. */
export const FILTER_FIELDS = ['path_prefix', 'glob', 'program'];

interface FieldProps {
  label: string;
  value: string;
  disabled: boolean;
  onChange(value: string): void;
}

/** A text that narrows the rows; it is applied when it is finished, not while it is typed. */
function TextFilter(props: FieldProps & { error: string | undefined }): JSX.Element {
  const { label, value, disabled, error, onChange } = props;
  const id = useElementId();
  // What is typed is the reader's until it is finished: a view that is drawn anew keeps it.
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return (
    <>
      <input
        class="jp-rootbound-Input"
        type="search"
        aria-label={label}
        placeholder={label}
        value={typed}
        disabled={disabled}
        {...invalid(id, error)}
        onInput={event => setTyped(event.currentTarget.value)}
        onChange={event => onChange(event.currentTarget.value.trim())}
      />
      <FieldError id={id} error={error} />
    </>
  );
}

interface ChoiceProps extends FieldProps {
  any: string;
  options: readonly (readonly [string, string])[];
}

function Choice({ label, value, disabled, onChange, any, options }: ChoiceProps): JSX.Element {
  return (
    <select
      class="jp-rootbound-Select"
      aria-label={label}
      disabled={disabled}
      value={value}
      onChange={event => onChange(event.currentTarget.value)}
    >
      <option value="">{any}</option>
      {options.map(([key, text]) => (
        <option key={key} value={key}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** The filters; what they say is the query of the API. */
export function Filters({ store, source }: ToolsProps): JSX.Element {
  const trans = useTrans();
  const filter = store.filter.value;
  const disabled = !source.live.value;
  const refused = refusal(store.problem.value, FILTER_FIELDS);
  const set = (part: Partial<AuditQuery>): void => {
    void store.setFilter({ ...filter, ...part });
  };
  const narrowed = Object.values(filter).some(Boolean);
  return (
    <div class="jp-rootbound-Filters" role="search" aria-label={trans.__('Filter')}>
      <Choice
        label={trans.__('Result')}
        any={trans.__('Any result')}
        value={filter.result ?? ''}
        disabled={disabled}
        options={[
          ['ALLOWED', trans.__('Allowed')],
          ['DENIED', trans.__('Denied')]
        ]}
        onChange={value => set({ result: RESULTS.find(one => one === value) })}
      />
      <Choice
        label={trans.__('Operation')}
        any={trans.__('Any operation')}
        value={filter.operation ?? ''}
        disabled={disabled}
        options={[
          ['READ', trans.__('Read')],
          ['WRITE', trans.__('Write')],
          ['DELETE', trans.__('Delete')]
        ]}
        onChange={value => set({ operation: OPERATIONS.find(one => one === value) })}
      />
      <Choice
        label={trans.__('Source')}
        any={trans.__('Any source')}
        value={filter.source ?? ''}
        disabled={disabled}
        options={SOURCES.map(one => [one, one] as const)}
        onChange={value => set({ source: value || undefined })}
      />
      <TextFilter
        label={trans.__('Path begins with')}
        value={filter.path_prefix ?? ''}
        disabled={disabled}
        error={refused.of('path_prefix')}
        onChange={value => set({ path_prefix: value || undefined })}
      />
      <TextFilter
        label={trans.__('Glob: **/*.py')}
        value={filter.glob ?? ''}
        disabled={disabled}
        error={refused.of('glob')}
        onChange={value => set({ glob: value || undefined })}
      />
      <TextFilter
        label={trans.__('Program')}
        value={filter.program ?? ''}
        disabled={disabled}
        error={refused.of('program')}
        onChange={value => set({ program: value || undefined })}
      />
      {(filter.since || filter.until) && (
        <Button
          label={trans.__('Any time')}
          disabled={disabled}
          onClick={() => set({ since: undefined, until: undefined })}
        >
          {`${shortTime(filter.since)} – ${shortTime(filter.until)} ×`}
        </Button>
      )}
      {narrowed && !disabled && (
        <Button onClick={() => void store.setFilter({})}>{trans.__('Clear')}</Button>
      )}
    </div>
  );
}

function shortTime(timestamp: string | undefined): string {
  return timestamp ? new Date(timestamp).toLocaleTimeString([], { hour12: false }) : '…';
}

/** Export, the API's address of what is shown, and the verification. */
export function AuditActions({ store, facts, source }: ToolsProps): JSX.Element | null {
  const trans = useTrans();
  const [done, setCopied] = useState(false);
  if (!source.live.value) {
    return null;
  }
  // Read here, so that the links follow the filter.
  const query = { ...store.filter.value, ...store.scope };
  const address = source.auditFacts.address(query, 'json');
  const running = facts.verification.value?.done === false;
  return (
    <>
      {address !== null && (
        <>
          <a
            class="jp-rootbound-Button"
            href={source.auditFacts.address(query, 'ndjson') ?? undefined}
            download="audit.ndjson"
            title={trans.__('Download everything that matches, one JSON object a line')}
          >
            NDJSON
          </a>
          <a
            class="jp-rootbound-Button"
            href={source.auditFacts.address(query, 'csv') ?? undefined}
            download="audit.csv"
            title={trans.__('Download everything that matches, as a table')}
          >
            CSV
          </a>
          <Button
            label={trans.__('Copy the API’s address of these rows')}
            onClick={() => {
              void copied(address).then(setCopied);
            }}
          >
            {done ? trans.__('Copied') : trans.__('API')}
          </Button>
        </>
      )}
      <Button
        label={trans.__('Recompute the hash chains of these runs')}
        disabled={running}
        onClick={() => void facts.verify()}
      >
        {running ? trans.__('Verifying…') : trans.__('Verify')}
      </Button>
      <Button label={trans.__('Read again')} onClick={() => void store.reload()}>
        ↻
      </Button>
    </>
  );
}

/** What the verification found. */
export function VerificationResult({ facts }: { facts: AuditFactsStore }): JSX.Element | null {
  const trans = useTrans();
  const found = facts.verification.value;
  if (!found) {
    return null;
  }
  const dismiss = found.done
    ? () => {
        facts.verification.value = null;
      }
    : undefined;
  const checked = trans._n(
    '%2 entries of %1 run checked',
    '%2 entries of %1 runs checked',
    found.runs,
    compact(found.entries)
  );
  const away = found.retained
    ? trans.__('; %1 were removed by retention', compact(found.retained))
    : '';
  if (found.findings.length === 0) {
    return (
      <Banner tone="calm" onDismiss={dismiss}>
        {found.done ? trans.__('The log is whole.') : trans.__('Verifying…')} {checked}
        {away}.
      </Banner>
    );
  }
  return (
    <Banner tone="error" onDismiss={dismiss}>
      {trans._n('%1 thing is wrong.', '%1 things are wrong.', found.findings.length)} {checked}
      {away}.
      <ul>
        {found.findings.slice(0, 20).map(one => (
          <li key={`${one.run_id} ${one.seq} ${one.kind}`}>
            <strong>{one.kind}</strong> {one.detail}
          </li>
        ))}
      </ul>
    </Banner>
  );
}
