import type { JSX } from 'preact';

import { clock, compact } from '../model/format';
import type { AuditOperation, AuditResult, AuditRow } from '../model/types';
import type { Source } from '../source/source';
import type { AccessStore } from '../stores/access';
import type { AuditStore } from '../stores/audit';
import { AccessRequests, requestLabel } from './access';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';
import { Windowed } from './windowed';

const ROW_PX = 24;
const RESULTS: readonly AuditResult[] = ['ALLOWED', 'DENIED'];
const OPERATIONS: readonly AuditOperation[] = ['READ', 'WRITE', 'DELETE'];

interface AuditProps {
  store: AuditStore;
  source: Source;
}

export function Audit({
  store,
  access,
  source
}: AuditProps & { access: AccessStore }): JSX.Element {
  const trans = useTrans();
  const rows = store.rows.value;
  const problem = store.problem.value;
  return (
    <section class="jp-rootbound jp-rootbound-Audit" aria-label={trans.__('Audit')}>
      <AuditHeader store={store} source={source} />
      <AccessRequests store={access} source={source} />
      {problem && <ProblemBanner problem={problem} onRetry={() => void store.reload()} />}
      {rows.length === 0 && !problem && (
        <p class="jp-rootbound-Empty">
          {store.complete.value ? trans.__('No file operation matches.') : trans.__('Loading…')}
        </p>
      )}
      {rows.length > 0 && (
        <div
          class="jp-rootbound-AuditTable"
          role="table"
          aria-label={trans.__('File operations')}
          aria-rowcount={store.complete.value ? rows.length + 1 : -1}
        >
          <div class="jp-rootbound-AuditRow jp-mod-head" role="row">
            <span role="columnheader">{trans.__('Time')}</span>
            <span role="columnheader">{trans.__('Result')}</span>
            <span role="columnheader">{trans.__('Operation')}</span>
            <span role="columnheader">{trans.__('Path')}</span>
            <span role="columnheader">{trans.__('Decision')}</span>
            <span role="columnheader">{trans.__('Source')}</span>
          </div>
          <Windowed
            count={rows.length}
            keyAt={index => rows[index]?.id ?? index}
            render={index => <Row row={rows[index]} index={index} access={access} />}
            estimate={ROW_PX}
            label={trans.__('Rows')}
            role="rowgroup"
            onNearEnd={() => void store.loadMore()}
          />
        </div>
      )}
    </section>
  );
}

function AuditHeader({ store, source }: AuditProps): JSX.Element {
  const trans = useTrans();
  const counts = store.counts.value;
  const filter = store.filter.value;
  const live = source.live.value;
  const total = (result: AuditResult): number =>
    counts.filter(one => one.result === result).reduce((sum, one) => sum + one.count, 0);
  const choose = <T extends string>(value: string, allowed: readonly T[]): T | undefined =>
    allowed.find(one => one === value);
  return (
    <header class="jp-rootbound-Toolbar">
      <span class="jp-rootbound-Chip" data-status="SUCCESS">
        {trans.__('%1 allowed', compact(total('ALLOWED')))}
      </span>
      <span class="jp-rootbound-Chip" data-status={total('DENIED') > 0 ? 'FAILED' : 'QUEUED'}>
        {trans.__('%1 denied', compact(total('DENIED')))}
      </span>
      {OPERATIONS.map(operation => (
        <span key={operation} class="jp-rootbound-Muted">
          {operation.toLowerCase()}{' '}
          {compact(
            counts
              .filter(one => one.operation === operation)
              .reduce((sum, one) => sum + one.count, 0)
          )}
        </span>
      ))}
      {!live && <SnapshotLabel />}
      <span class="jp-rootbound-Spacer" />
      <select
        class="jp-rootbound-Select"
        aria-label={trans.__('Result')}
        disabled={!live}
        value={filter.result ?? ''}
        onChange={event => {
          const result = choose(event.currentTarget.value, RESULTS);
          void store.setFilter({ ...filter, result });
        }}
      >
        <option value="">{trans.__('Any result')}</option>
        <option value="ALLOWED">{trans.__('Allowed')}</option>
        <option value="DENIED">{trans.__('Denied')}</option>
      </select>
      <select
        class="jp-rootbound-Select"
        aria-label={trans.__('Operation')}
        disabled={!live}
        value={filter.operation ?? ''}
        onChange={event => {
          const operation = choose(event.currentTarget.value, OPERATIONS);
          void store.setFilter({ ...filter, operation });
        }}
      >
        <option value="">{trans.__('Any operation')}</option>
        <option value="READ">{trans.__('Read')}</option>
        <option value="WRITE">{trans.__('Write')}</option>
        <option value="DELETE">{trans.__('Delete')}</option>
      </select>
      {live && (
        <Button label={trans.__('Read again')} onClick={() => void store.reload()}>
          ↻
        </Button>
      )}
    </header>
  );
}

/** Who did it, as far as the kernel or the tool could tell. */
function actor(row: AuditRow): string {
  const program = row.detail['program'] ?? row.detail['tool'];
  return typeof program === 'string'
    ? `${row.source}: ${program.slice(program.lastIndexOf('/') + 1)}`
    : row.source;
}

interface RowProps {
  row: AuditRow | undefined;
  index: number;
  access: AccessStore;
}

/** Whether a denied operation was put to the user, and what became of that. */
function Decision({ row, access }: { row: AuditRow; access: AccessStore }): JSX.Element {
  const trans = useTrans();
  const grant = row.detail['grant'];
  if (row.result !== 'DENIED' || typeof grant !== 'object' || grant === null) {
    return <span role="cell" />;
  }
  const { folder, refused } = grant as { folder?: string; refused?: string };
  const request = folder ? access.matching(row.attempt, row.operation, folder) : undefined;
  return (
    <span role="cell" class="jp-rootbound-Muted" title={refused ?? folder}>
      {request ? requestLabel(request, trans) : refused ? trans.__('not grantable') : ''}
    </span>
  );
}

function Row({ row, index, access }: RowProps): JSX.Element | null {
  if (!row) {
    return null;
  }
  const second = row.detail['path2'];
  const path = typeof second === 'string' && second ? `${row.path} → ${second}` : row.path;
  return (
    <div
      class="jp-rootbound-AuditRow"
      role="row"
      aria-rowindex={index + 2}
      data-result={row.result}
    >
      <time role="cell" dateTime={row.timestamp} title={row.timestamp}>
        {clock(row.timestamp)}
      </time>
      <span role="cell" class="jp-rootbound-AuditRow-result">
        {row.result}
      </span>
      <span role="cell">{row.operation}</span>
      <span role="cell" class="jp-rootbound-AuditRow-path" title={path}>
        <bdi>{path}</bdi>
      </span>
      <Decision row={row} access={access} />
      <span role="cell" class="jp-rootbound-Muted" title={JSON.stringify(row.detail)}>
        {actor(row)}
      </span>
    </div>
  );
}
