import type { ComponentChildren, JSX } from 'preact';

import type { ProblemError } from '../model/problem';
import type { Attempt, AttemptStatus, Gate, GateName, Usage } from '../model/types';
import { duration } from '../model/format';
import type { Link } from '../source/source';
import type { Late } from '../stores/late';
import { useTrans } from './context';
import { attemptStatusLabel, sentence } from './labels';

const GATES: readonly GateName[] = ['install', 'lint', 'test'];

interface ButtonProps {
  onClick(): void;
  children: ComponentChildren;
  kind?: 'plain' | 'primary' | 'danger';
  disabled?: boolean;
  tabIndex?: number;
  label?: string;
  pressed?: boolean;
}

export function Button(props: ButtonProps): JSX.Element {
  return (
    <button
      type="button"
      class={`jp-rootbound-Button jp-mod-${props.kind ?? 'plain'}`}
      disabled={props.disabled ?? false}
      tabIndex={props.tabIndex ?? 0}
      aria-label={accessibleName(props)}
      aria-pressed={props.pressed}
      title={props.label}
      onClick={event => {
        event.stopPropagation();
        props.onClick();
      }}
    >
      {props.children}
    </button>
  );
}

/** What is read out begins with what is seen, for people who speak to their computer. */
function accessibleName({ label, children }: ButtonProps): string | undefined {
  const seen = typeof children === 'string' ? children.replace(/…$/, '') : '';
  return label && /\p{L}/u.test(seen) && !label.toLowerCase().includes(seen.toLowerCase())
    ? `${seen}: ${label}`
    : label;
}

interface BannerProps {
  tone: 'error' | 'calm' | 'warn';
  children: ComponentChildren;
  onDismiss?: () => void;
  action?: { label: string; run(): void };
}

/** One message across the view; errors interrupt a screen reader, the others wait. */
export function Banner({ tone, children, onDismiss, action }: BannerProps): JSX.Element {
  const trans = useTrans();
  return (
    <div class={`jp-rootbound-Banner jp-mod-${tone}`} role={tone === 'error' ? 'alert' : 'status'}>
      <span class="jp-rootbound-Banner-text">{children}</span>
      {action && <Button onClick={action.run}>{action.label}</Button>}
      {onDismiss && (
        <Button onClick={onDismiss} label={trans.__('Dismiss')}>
          ×
        </Button>
      )}
    </div>
  );
}

interface ProblemBannerProps {
  problem: ProblemError;
  onRetry?: () => void;
  onDismiss?: () => void;
  /** Starts the services, where that is possible. */
  onStart?: () => void;
  /** Shows the guide, which makes agents. */
  onGuide?: () => void;
}

/** The problem's own sentence; services that are starting are news, not an error. */
export function ProblemBanner(props: ProblemBannerProps): JSX.Element {
  const { problem, onRetry, onDismiss, onStart, onGuide } = props;
  const trans = useTrans();
  if (problem.needsStart && onStart) {
    const action = { label: trans.__('Start the services'), run: onStart };
    return (
      <Banner tone={problem.code === 'stack-failed' ? 'error' : 'calm'} action={action}>
        {sentence(problem, trans)}
      </Banner>
    );
  }
  if (problem.isPassing && !problem.needsStart) {
    const action = onRetry ? { label: trans.__('Retry now'), run: onRetry } : undefined;
    return (
      <Banner tone="calm" action={action}>
        <span class="jp-rootbound-Spinner" aria-hidden="true" />
        {problem.code === 'offline'
          ? trans.__('The Jupyter server does not answer. This view goes on when it does.')
          : trans.__('Rootbound’s services are starting. This view opens by itself.')}
      </Banner>
    );
  }
  const retry = onRetry ? { label: trans.__('Retry'), run: onRetry } : undefined;
  const action =
    problem.code === 'agent-missing' && onGuide
      ? { label: trans.__('Getting Started'), run: onGuide }
      : retry;
  return (
    <Banner tone="error" action={action} onDismiss={onDismiss}>
      {sentence(problem, trans)}
    </Banner>
  );
}

interface TooLateProps {
  /** What was not done; null when it was not tried yet. */
  late: Late | null;
  /** What the attempt was when its reader began to decide. */
  before: AttemptStatus | null;
  now: AttemptStatus | null;
  /** Whether something was typed for it. */
  typed: boolean;
  onDismiss?: () => void;
}

/** That somebody else was quicker: what was not done, why, and that nothing is lost. */
export function TooLate({ late, before, now, typed, onDismiss }: TooLateProps): JSX.Element | null {
  const trans = useTrans();
  const was = late ? late.status : before;
  const parts: string[] = [];
  if (late) {
    parts.push(trans.__('This was not done.'));
  }
  if (now !== null && was !== null && now !== was) {
    parts.push(
      trans.__(
        'Somebody decided on this attempt meanwhile; it is “%1” now.',
        attemptStatusLabel(now, trans)
      )
    );
  } else if (late) {
    parts.push(sentence(late.problem, trans));
  }
  if (parts.length === 0) {
    return null;
  }
  if (typed) {
    parts.push(trans.__('What you typed is kept.'));
  }
  return (
    <Banner tone="warn" onDismiss={onDismiss}>
      {parts.join(' ')}
    </Banner>
  );
}

export function SnapshotLabel(): JSX.Element {
  const trans = useTrans();
  return (
    <span
      class="jp-rootbound-Tag jp-mod-snapshot"
      title={trans.__('Saved state without a kernel. Run the cell again for the live view.')}
    >
      {trans.__('snapshot')}
    </span>
  );
}

export function ReplayTag(): JSX.Element {
  const trans = useTrans();
  return (
    <span
      class="jp-rootbound-Tag jp-mod-replay"
      title={trans.__('A recorded script answered in place of a model.')}
    >
      {trans.__('replayed model')}
    </span>
  );
}

export function StatusChip({ status }: { status: AttemptStatus }): JSX.Element {
  const trans = useTrans();
  return (
    <span class="jp-rootbound-Chip" data-status={status}>
      {attemptStatusLabel(status, trans)}
    </span>
  );
}

export function DeniedTag({ count }: { count: number }): JSX.Element | null {
  const trans = useTrans();
  if (count === 0) {
    return null;
  }
  return (
    <span
      class="jp-rootbound-Tag jp-mod-denied"
      title={trans.__('File operations that the policy refused')}
    >
      {trans._n('%1 denied', '%1 denied', count)}
    </span>
  );
}

/** What an attempt has cost, where the model's price is known. */
export function Cost({ usage }: { usage: Usage | null }): JSX.Element | null {
  const cost = usage?.cost_usd;
  return typeof cost === 'number' && cost > 0 ? (
    <span class="jp-rootbound-Muted">${cost.toFixed(cost < 1 ? 3 : 2)}</span>
  ) : null;
}

/** One light per gate: passed, failed, or no evidence yet. */
export function GateLights({ gates }: { gates: readonly Gate[] }): JSX.Element {
  const trans = useTrans();
  const latest = new Map<string, Gate>(gates.map(gate => [gate.name, gate]));
  return (
    <ul class="jp-rootbound-Gates" aria-label={trans.__('Gates')}>
      {GATES.map(name => {
        const gate = latest.get(name);
        const state = gate ? (gate.exit_code === 0 ? 'passed' : 'failed') : 'none';
        const text = gate
          ? trans.__('%1: exit code %2 in %3', name, gate.exit_code, duration(gate.duration_s))
          : trans.__('%1: not run', name);
        return (
          <li key={name} class="jp-rootbound-Gate" data-state={state} title={text}>
            <span class="jp-rootbound-Gate-light" aria-hidden="true">
              {state === 'passed' ? '✓' : state === 'failed' ? '✕' : ''}
            </span>
            <span aria-hidden="true">{name}</span>
            <span class="jp-rootbound-hidden">{text}</span>
          </li>
        );
      })}
    </ul>
  );
}

export function LinkDot({ link }: { link: Link }): JSX.Element {
  const trans = useTrans();
  const text =
    link === 'live'
      ? trans.__('Live')
      : link === 'connecting'
        ? trans.__('Connecting')
        : trans.__('Connection lost; trying again');
  return (
    <span class="jp-rootbound-Link" data-link={link} role="status" title={text}>
      <span class="jp-rootbound-hidden">{text}</span>
    </span>
  );
}

/** Why a queued attempt waits, or the typed reason of a failed one and its sentence. */
export function ReasonLine({ attempt }: { attempt: Attempt }): JSX.Element | null {
  if (attempt.status === 'QUEUED' && attempt.waiting_for) {
    return <p class="jp-rootbound-Waiting">{attempt.waiting_for}</p>;
  }
  if (attempt.status !== 'FAILED' || !attempt.failure) {
    return null;
  }
  return (
    <p class="jp-rootbound-Failure">
      <code>{attempt.failure}</code> {attempt.failure_message}
    </p>
  );
}
