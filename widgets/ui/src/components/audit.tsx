import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { clock, compact } from '../model/format';
import type { AuditResult, AuditRow } from '../model/types';
import type { Source } from '../source/source';
import type { AccessStore } from '../stores/access';
import type { AuditStore } from '../stores/audit';
import type { AuditFactsStore } from '../stores/audit_facts';
import { AccessRequests, requestLabel } from './access';
import { Timeline } from './audit_timeline';
import { FILTER_FIELDS, AuditActions, Filters, VerificationResult } from './audit_tools';
import { FolderTree } from './audit_tree';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';
import { refusal } from './form';
import { FixedList } from './fixedlist';

const ROW_PX = 24;

interface AuditProps {
  store: AuditStore;
  facts: AuditFactsStore;
  access: AccessStore;
  source: Source;
}

/** What agents did to files: when, where, by whom, and what was refused. */
export function Audit(props: AuditProps): JSX.Element {
  const { store, facts, access, source } = props;
  const trans = useTrans();
  const [tree, setTree] = useState(false);
  const wrong = refusal(store.problem.value, FILTER_FIELDS);
  // A filter that is refused says so itself.
  const problem = wrong.rest ?? (store.problem.value ? null : facts.problem.value);
  const live = source.live.value;
  const filter = store.filter.value;
  const timeline = facts.timeline.value;
  useEffect(() => {
    if (live) {
      facts.showTimeline();
    }
  }, [live]);
  useEffect(() => {
    if (live && tree) {
      facts.showTree();
    }
  }, [live, tree]);
  return (
    <section class="jp-rootbound jp-rootbound-Audit" aria-label={trans.__('Audit')}>
      <AuditHeader {...props} tree={tree} onTree={() => setTree(!tree)} />
      <AccessRequests store={access} source={source} quiet={store.problem.value !== null} />
      <VerificationResult facts={facts} />
      {problem && <ProblemBanner problem={problem} onRetry={() => void store.reload()} />}
      {timeline && (
        <Timeline
          timeline={timeline}
          onChoose={
            live ? (since, until) => void store.setFilter({ ...filter, since, until }) : null
          }
        />
      )}
      <div class="jp-rootbound-Audit-body">
        {tree && (
          <FolderTree
            facts={facts}
            chosen={filter.path_prefix ?? ''}
            onChoose={
              live
                ? path =>
                    void store.setFilter({
                      ...filter,
                      path_prefix: filter.path_prefix === path ? undefined : path
                    })
                : null
            }
          />
        )}
        <Rows store={store} access={access} live={live} />
      </div>
    </section>
  );
}

interface RowsProps {
  store: AuditStore;
  access: AccessStore;
  live: boolean;
}

function Rows({ store, access, live }: RowsProps): JSX.Element {
  const trans = useTrans();
  const count = store.count.value;
  // The list grows in place; this is what tells that it did.
  void store.revision.value;
  if (count === 0) {
    if (store.problem.value) {
      return <div class="jp-rootbound-AuditTable" />;
    }
    return (
      <p class="jp-rootbound-Empty jp-rootbound-AuditTable">
        {store.complete.value ? trans.__('No file operation matches.') : trans.__('Loading…')}
      </p>
    );
  }
  return (
    <div
      class="jp-rootbound-AuditTable"
      role="table"
      aria-label={trans.__('File operations')}
      aria-rowcount={store.complete.value ? count + 1 : -1}
    >
      <div role="rowgroup">
        <div class="jp-rootbound-AuditRow jp-mod-head" role="row">
          <span role="columnheader">{trans.__('Time')}</span>
          <span role="columnheader">{trans.__('Result')}</span>
          <span role="columnheader">{trans.__('Operation')}</span>
          <span role="columnheader">{trans.__('Path')}</span>
          <span role="columnheader">{trans.__('Decision')}</span>
          <span role="columnheader">{trans.__('Source')}</span>
        </div>
      </div>
      <FixedList
        count={count}
        rowPx={ROW_PX}
        label={trans.__('Rows')}
        resetOn={store.filter.value}
        render={index => (
          <Row row={store.rows[index]} index={index} access={access} live={live} />
        )}
        onNearEnd={() => void store.loadMore()}
      />
    </div>
  );
}

interface HeaderProps extends AuditProps {
  tree: boolean;
  onTree(): void;
}

function AuditHeader(props: HeaderProps): JSX.Element {
  const { store, source, tree, onTree } = props;
  const trans = useTrans();
  const counts = store.counts.value;
  const total = (result: AuditResult): number =>
    (counts ?? []).filter(one => one.result === result).reduce((sum, one) => sum + one.count, 0);
  return (
    <header class="jp-rootbound-Toolbar">
      {counts && (
        <>
          <span class="jp-rootbound-Chip" data-status="SUCCESS">
            {trans.__('%1 allowed', compact(total('ALLOWED')))}
          </span>
          <span class="jp-rootbound-Chip" data-status={total('DENIED') > 0 ? 'FAILED' : 'QUEUED'}>
            {trans._n('%2 denied', '%2 denied', total('DENIED'), compact(total('DENIED')))}
          </span>
        </>
      )}
      {!source.live.value && <SnapshotLabel />}
      <Filters {...props} />
      <div class="jp-rootbound-ToolbarEnd">
        {source.live.value && (
          <Button pressed={tree} onClick={onTree}>
            {trans.__('Folders')}
          </Button>
        )}
        <AuditActions {...props} />
      </div>
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
  live: boolean;
}

/** Whether a denied operation was put to the user, and what became of that. */
function Decision({ row, access, live }: Omit<RowProps, 'index'> & { row: AuditRow }): JSX.Element {
  const trans = useTrans();
  const grant = row.detail['grant'];
  if (row.result !== 'DENIED' || typeof grant !== 'object' || grant === null) {
    return <span role="cell" />;
  }
  const { folder, refused } = grant as { folder?: string; refused?: string };
  const request = folder ? access.matching(row.attempt, row.operation, folder) : undefined;
  if (live && request?.status === 'PENDING') {
    const busy = access.busy.value.has(request.id);
    return (
      <span role="cell" class="jp-rootbound-AuditRow-decide">
        <Button
          label={trans.__('Grant %1 for this task', request.granted_folder || request.folder)}
          disabled={busy}
          onClick={() => void access.grant(request.id, 'task')}
        >
          {trans.__('Grant')}
        </Button>
        <Button
          label={trans.__('Refuse %1', request.granted_folder || request.folder)}
          kind="danger"
          disabled={busy}
          onClick={() => void access.refuse(request.id)}
        >
          {trans.__('Refuse')}
        </Button>
      </span>
    );
  }
  return (
    <span role="cell" class="jp-rootbound-Muted" title={refused ?? folder}>
      {request ? requestLabel(request, trans) : refused ? trans.__('not grantable') : ''}
    </span>
  );
}

function Row({ row, index, access, live }: RowProps): JSX.Element | null {
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
      <Decision row={row} access={access} live={live} />
      <span role="cell" class="jp-rootbound-Muted" title={JSON.stringify(row.detail)}>
        {actor(row)}
      </span>
    </div>
  );
}
