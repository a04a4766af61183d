import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';

import type { Trans } from '../model/trans';
import type { AccessRequest, AccessScope } from '../model/types';
import type { Source } from '../source/source';
import type { AccessStore } from '../stores/access';
import { Banner, Button, ProblemBanner } from './common';
import { useTrans } from './context';

interface AccessProps {
  store: AccessStore;
  source: Source;
  /** The view tells a problem of its own; the same one is not told twice. */
  quiet?: boolean;
}

/** What agents were denied and could be granted, each with its decision. */
export function AccessRequests({ store, source, quiet }: AccessProps): JSX.Element | null {
  const trans = useTrans();
  const [confirming, setConfirming] = useState<string | null>(null);
  const section = useRef<HTMLElement>(null);
  const requests = store.requests.value;
  const pending = requests.filter(one => one.status === 'PENDING');
  const taken = requests.filter(one => one.status === 'GRANTED' && one.scope === 'TASK');
  const problem = quiet ? null : store.problem.value;
  const decided = store.decided.value;
  if (pending.length + taken.length === 0 && !problem && !decided) {
    return null;
  }
  const decide = (act: Promise<void>): void => {
    setConfirming(null);
    // The pressed button goes away with its row; the focus stays in the list.
    void act.then(() => section.current?.focus());
  };
  const live = source.live.value;
  return (
    <section
      class={`jp-rootbound-AccessList${pending.length > 0 ? ' jp-mod-pending' : ''}`}
      aria-label={trans.__('Requests for access')}
      tabIndex={-1}
      ref={section}
    >
      {pending.length > 0 && (
        <h4 class="jp-rootbound-AccessList-head">
          {trans._n(
            'The agent asks for %1 permission',
            'The agent asks for %1 permissions',
            pending.length
          )}
        </h4>
      )}
      {problem && (
        <ProblemBanner
          problem={problem}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {decided && (
        <Banner
          tone="calm"
          onDismiss={() => {
            store.decided.value = null;
          }}
        >
          {decisionText(decided, trans)}
        </Banner>
      )}
      <ul class="jp-rootbound-AccessList-rows" role="list">
        {[...pending, ...taken].map(request => (
          <Row
            key={request.id}
            request={request}
            disabled={!live || store.busy.value.has(request.id)}
            confirming={confirming === request.id}
            onConfirm={open => setConfirming(open ? request.id : null)}
            onGrant={scope => decide(store.grant(request.id, scope))}
            onRefuse={() => decide(store.refuse(request.id))}
          />
        ))}
      </ul>
    </section>
  );
}

interface RowProps {
  request: AccessRequest;
  disabled: boolean;
  confirming: boolean;
  onConfirm(open: boolean): void;
  onGrant(scope: AccessScope): void;
  onRefuse(): void;
}

function Row(props: RowProps): JSX.Element {
  const { request, disabled, confirming, onConfirm, onGrant, onRefuse } = props;
  const trans = useTrans();
  const asked = askedText(request, trans);
  const program = request.program.slice(request.program.lastIndexOf('/') + 1);
  return (
    <li class="jp-rootbound-Access" data-status={request.status} aria-label={asked}>
      <div class="jp-rootbound-Access-what">
        <span>
          <strong>{verb(request.operation, trans)}</strong>{' '}
          <code title={request.folder}>{request.granted_folder || request.folder}</code>
        </span>
        <span class="jp-rootbound-Muted" title={request.path}>
          {request.status === 'GRANTED'
            ? trans.__('granted for this task')
            : trans._n('%2: %3', '%2: %3 (%1 times)', request.count, program, request.path)}
        </span>
      </div>
      {confirming ? (
        <div class="jp-rootbound-Access-buttons" role="group" aria-label={trans.__('Confirm')}>
          <span>{confirmText(request, trans)}</span>
          <Button kind="primary" disabled={disabled} onClick={() => onGrant('always')}>
            {trans.__('Yes, always')}
          </Button>
          <Button onClick={() => onConfirm(false)}>{trans.__('Back')}</Button>
        </div>
      ) : request.status === 'GRANTED' ? (
        <div class="jp-rootbound-Access-buttons">
          <Button kind="danger" disabled={disabled} onClick={onRefuse}>
            {trans.__('Take back')}
          </Button>
        </div>
      ) : (
        <div class="jp-rootbound-Access-buttons">
          <Button kind="primary" disabled={disabled} onClick={() => onGrant('task')}>
            {trans.__('Grant for this task')}
          </Button>
          <Button disabled={disabled} onClick={() => onConfirm(true)}>
            {trans.__('Always grant')}
          </Button>
          <Button kind="danger" disabled={disabled} onClick={onRefuse}>
            {trans.__('Refuse')}
          </Button>
        </div>
      )}
    </li>
  );
}

function verb(operation: string, trans: Trans): string {
  switch (operation) {
    case 'READ':
      return trans.__('Read');
    case 'DELETE':
      return trans.__('Delete in');
    default:
      return trans.__('Write in');
  }
}

function askedText(request: AccessRequest, trans: Trans): string {
  return `${verb(request.operation, trans)} ${request.granted_folder || request.folder}`;
}

function confirmText(request: AccessRequest, trans: Trans): string {
  return request.operation === 'READ'
    ? trans.__('Every later run of this project may read there.')
    : trans.__('Every later run may write there, until you remove the root.');
}

/** One decision as a sentence, in the reader's language. */
export function decisionText(request: AccessRequest, trans: Trans): string {
  const folder = request.granted_folder || request.folder;
  if (request.status !== 'GRANTED') {
    return trans.__('Refused: %1.', folder);
  }
  if (request.operation === 'READ') {
    return request.scope === 'ALWAYS'
      ? trans.__('This project’s runs may read %1 from now on.', folder)
      : trans.__('This task may read %1, from its next command on.', folder);
  }
  return request.scope === 'ALWAYS'
    ? trans.__('Agents may write in %1 from now on.', folder)
    : trans.__('This task may write in %1, from its next command on.', folder);
}

/** What became of the request behind a denied operation, in a word. */
export function requestLabel(request: AccessRequest, trans: Trans): string {
  switch (request.status) {
    case 'PENDING':
      return trans.__('asked');
    case 'GRANTED':
      return trans.__('granted since');
    case 'REFUSED':
      return trans.__('refused');
    case 'EXPIRED':
      return trans.__('expired');
  }
}
