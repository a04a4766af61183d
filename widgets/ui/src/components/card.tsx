import type { JSX } from 'preact';

import { isLive } from '../model/types';
import type { Task } from '../model/types';
import type { BoardStore } from '../stores/board';
import { Button, Cost, DeniedTag, GateLights, ReasonLine, ReplayTag, StatusChip } from './common';
import { useTrans } from './context';
import { useDraft } from './draft';

/** Where a card stands: in its column, and in the list of its group. */
export interface CardPlace {
  row: number;
  /** Room above it for cards that are not drawn, in pixels. */
  gap: number;
  at: number;
  of: number;
}

export interface CardProps {
  place: CardPlace;
  task: Task;
  store: BoardStore;
  live: boolean;
  /** Whether this card is the board's one tab stop. */
  active: boolean;
  selected: boolean;
  expanded: boolean;
  /** Whether the reason of a rejection is being asked for. */
  rejecting: boolean;
  onRejecting(on: boolean): void;
  onActivate(): void;
  onToggle(): void;
  onDragStart(transfer: DataTransfer): void;
  onDragEnd(): void;
  onEdit?: (task: Task) => void;
  onOpenAttempt?: (attemptId: string) => void;
}

export function Card(props: CardProps): JSX.Element {
  const { task, store, active, expanded, place } = props;
  const trans = useTrans();
  const attempt = task.latest_attempt;
  const blockers = store.blockers(task);
  return (
    <li
      class={`jp-rootbound-Card${expanded ? ' jp-mod-expanded' : ''}`}
      data-task={task.id}
      data-status={task.status}
      data-row={place.row}
      aria-posinset={place.at}
      aria-setsize={place.of}
      style={{ marginTop: `${place.gap}px` }}
      tabIndex={active ? 0 : -1}
      aria-label={task.title}
      aria-current={props.selected}
      aria-busy={store.busy.value.has(task.id)}
      draggable={props.live && task.status !== 'DONE'}
      onDragStart={event => {
        if (event.dataTransfer) {
          props.onDragStart(event.dataTransfer);
        }
      }}
      onDragEnd={props.onDragEnd}
      onFocus={props.onActivate}
      onClick={props.onToggle}
    >
      <div class="jp-rootbound-Card-head">
        <span class="jp-rootbound-Role" data-role={task.agent_role}>
          {task.agent_role}
        </span>
        {task.priority !== 0 && (
          <span class="jp-rootbound-Priority" title={trans.__('Priority %1', task.priority)}>
            P{task.priority}
          </span>
        )}
        {attempt && (
          <span class="jp-rootbound-Card-number" title={trans.__('Attempt %1', attempt.number)}>
            #{attempt.number}
          </span>
        )}
        {attempt && <StatusChip status={attempt.status} />}
      </div>
      <div class="jp-rootbound-Card-title">{task.title}</div>
      {blockers.length > 0 && (
        <p class="jp-rootbound-Card-blocked">
          {trans.__(
            'Blocked by: %1',
            blockers.map(one => one.title ?? trans.__('another task')).join(', ')
          )}
        </p>
      )}
      {attempt && (
        <div class="jp-rootbound-Card-facts">
          <GateLights gates={attempt.gates} />
          <DeniedTag count={attempt.denied_count} />
          {attempt.agent?.is_replay && <ReplayTag />}
          <Cost usage={attempt.usage} />
        </div>
      )}
      {attempt && <ReasonLine attempt={attempt} />}
      <Waiting task={task} />
      {expanded && task.description && (
        <p class="jp-rootbound-Card-description">{task.description}</p>
      )}
      <CardActions {...props} blocked={blockers.length > 0} />
    </li>
  );
}

/** Why a task does not go on, and its place among those that wait. */
function Waiting({ task }: { task: Task }): JSX.Element | null {
  const trans = useTrans();
  const attempt = task.latest_attempt;
  // A queued attempt tells its own reason, a blocked task its blockers.
  if (!task.waiting_reason || attempt?.status === 'QUEUED' || task.blocked_by.length > 0) {
    return null;
  }
  return (
    <p class="jp-rootbound-Waiting">
      {task.queue_place ? `${trans.__('Place %1', task.queue_place)}: ` : ''}
      {task.waiting_reason}
    </p>
  );
}

function CardActions(props: CardProps & { blocked: boolean }): JSX.Element {
  const { task, store, live, active, blocked, onOpenAttempt } = props;
  const trans = useTrans();
  const { rejecting, onRejecting: setRejecting, onEdit } = props;
  const attempt = task.latest_attempt;
  const disabled = !live || store.busy.value.has(task.id);
  const tabIndex = active ? 0 : -1;
  const running = attempt !== null && isLive(attempt.status);
  const reviewing = attempt !== null && attempt.status === 'REVIEW';
  if (rejecting && reviewing) {
    return (
      <RejectForm
        about={attempt.id}
        onCancel={() => setRejecting(false)}
        onReject={async reason => {
          const done = await store.reject(task, reason);
          if (done) {
            setRejecting(false);
          }
          return done;
        }}
        disabled={disabled}
      />
    );
  }
  return (
    <div class="jp-rootbound-Actions" role="group" aria-label={trans.__('Actions')}>
      {attempt && onOpenAttempt && (
        <Button tabIndex={tabIndex} onClick={() => onOpenAttempt(attempt.id)}>
          {trans.__('Open')}
        </Button>
      )}
      {task.status === 'TODO' && !running && (
        <Button
          kind={blocked ? 'plain' : 'primary'}
          tabIndex={tabIndex}
          disabled={disabled || blocked}
          onClick={() => void store.start(task)}
        >
          {attempt ? trans.__('Start again') : trans.__('Start')}
        </Button>
      )}
      {reviewing && (
        <>
          <Button
            kind="primary"
            tabIndex={tabIndex}
            disabled={disabled}
            onClick={() => void store.approve(task)}
          >
            {trans.__('Approve')}
          </Button>
          <Button
            kind="danger"
            tabIndex={tabIndex}
            disabled={disabled}
            onClick={() => setRejecting(true)}
          >
            {trans.__('Reject…')}
          </Button>
        </>
      )}
      {running && (
        <Button
          kind="danger"
          tabIndex={tabIndex}
          disabled={disabled}
          onClick={() => void store.cancel(task)}
        >
          {trans.__('Cancel')}
        </Button>
      )}
      {onEdit && live && (
        <Button
          tabIndex={tabIndex}
          label={trans.__('Change the task')}
          onClick={() => onEdit(task)}
        >
          ✎
        </Button>
      )}
    </div>
  );
}

interface RejectFormProps {
  /** The attempt that is rejected. */
  about: string;
  /** Reject; false when that was refused. */
  onReject(reason: string): Promise<boolean>;
  onCancel(): void;
  disabled: boolean;
}

/** Asks why, because the reason is what the next attempt learns from. */
export function RejectForm({ about, onReject, onCancel, disabled }: RejectFormProps): JSX.Element {
  const trans = useTrans();
  const draft = useDraft(`reject ${about}`, '');
  const reason = draft.value;
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (reason.trim() && (await onReject(reason.trim()))) {
      draft.clear();
    }
  };
  return (
    <form
      class="jp-rootbound-RejectForm"
      onSubmit={event => void submit(event)}
      onClick={event => event.stopPropagation()}
      onKeyDown={event => {
        // The board's arrow keys must not act on what is typed here.
        event.stopPropagation();
        if (event.key === 'Escape') {
          onCancel();
        }
      }}
    >
      <input
        class="jp-rootbound-Input"
        aria-label={trans.__('Reason for the rejection')}
        placeholder={trans.__('What should be different?')}
        value={reason}
        onInput={event => draft.set(event.currentTarget.value)}
        ref={input => input?.focus()}
      />
      <button
        type="submit"
        class="jp-rootbound-Button jp-mod-danger"
        disabled={disabled || !reason.trim()}
      >
        {trans.__('Reject')}
      </button>
      <Button onClick={onCancel}>{trans.__('Back')}</Button>
    </form>
  );
}
