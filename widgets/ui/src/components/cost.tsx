import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { compact, money } from '../model/format';
import type { CostList, CostRow } from '../model/machine';
import type { Loaded } from '../stores/loaded';
import { Button, ProblemBanner, SnapshotLabel } from './common';
import { useTrans } from './context';

const WIDTH = 1000;
const HEIGHT = 180;
const MOST_SERIES = 6;
const DAY_MS = 86_400_000;

/** Days that are shown at first. */
export const COST_DAYS = 30;

export type CostGroup = 'project' | 'role';
/** `auto` is money, or tokens when no run has a known price. */
export type CostMeasure = 'auto' | 'tokens' | 'money';

export interface CostChoice {
  group: CostGroup;
  measure: CostMeasure;
}

interface CostProps {
  store: Loaded<CostList>;
  live: boolean;
  choice: CostChoice;
  /** Told when the reader chooses another grouping or measure. */
  onChoice?: (choice: CostChoice) => void;
  /** Asks for so many days back; without it the span is as given. */
  onDays?: (days: number) => void;
}

interface Series {
  name: string;
  values: Map<string, number>;
  total: number;
}

function amount(row: CostRow, measure: CostMeasure): number {
  return measure === 'money' ? row.cost_usd : row.input_tokens + row.output_tokens;
}

/** Rows as series by day, the largest first; what is beyond the sixth is added up as others. */
export function seriesOf(rows: readonly CostRow[], choice: CostChoice, others: string): Series[] {
  const found = new Map<string, Series>();
  for (const row of rows) {
    const name = choice.group === 'role' ? row.role : row.project_name;
    const series = found.get(name) ?? { name, values: new Map(), total: 0 };
    const value = amount(row, choice.measure);
    series.values.set(row.day, (series.values.get(row.day) ?? 0) + value);
    series.total += value;
    found.set(name, series);
  }
  const sorted = [...found.values()].sort((one, other) => other.total - one.total);
  if (sorted.length <= MOST_SERIES) {
    return sorted;
  }
  const rest: Series = { name: others, values: new Map(), total: 0 };
  for (const series of sorted.slice(MOST_SERIES - 1)) {
    rest.total += series.total;
    for (const [day, value] of series.values) {
      rest.values.set(day, (rest.values.get(day) ?? 0) + value);
    }
  }
  return [...sorted.slice(0, MOST_SERIES - 1), rest];
}

/** All days of a span, also those on which nothing ran. */
export function daysOf({ since, until }: CostList): string[] {
  const days: string[] = [];
  for (let day = Date.parse(since); day <= Date.parse(until); day += DAY_MS) {
    days.push(new Date(day).toISOString().slice(0, 10));
  }
  return days;
}

/** Tokens and money by project, role and day. */
export function Cost(props: CostProps): JSX.Element {
  const { store, live, onDays, onChoice } = props;
  const trans = useTrans();
  const [choice, setChoice] = useState(props.choice);
  const [given, setGiven] = useState(props.choice);
  const [days, setDays] = useState(COST_DAYS);
  if (given.group !== props.choice.group || given.measure !== props.choice.measure) {
    // The owner chose anew, as Python does by a trait.
    setGiven(props.choice);
    setChoice(props.choice);
  }
  const list = store.value.value;
  const problem = store.problem.value;
  const priced = (list?.results ?? []).some(row => row.cost_usd > 0);
  const measure = choice.measure === 'auto' ? (priced ? 'money' : 'tokens') : choice.measure;
  const choose = (part: Partial<CostChoice>): void => {
    const next = { ...choice, ...part };
    setChoice(next);
    onChoice?.(next);
  };
  return (
    <section class="jp-rootbound jp-rootbound-Cost" aria-label={trans.__('Cost')}>
      <header class="jp-rootbound-Toolbar">
        <strong>{trans.__('Cost')}</strong>
        {!live && <SnapshotLabel />}
        <Button pressed={measure === 'money'} onClick={() => choose({ measure: 'money' })}>
          {trans.__('Money')}
        </Button>
        <Button pressed={measure === 'tokens'} onClick={() => choose({ measure: 'tokens' })}>
          {trans.__('Tokens')}
        </Button>
        <Button pressed={choice.group === 'project'} onClick={() => choose({ group: 'project' })}>
          {trans.__('By project')}
        </Button>
        <Button pressed={choice.group === 'role'} onClick={() => choose({ group: 'role' })}>
          {trans.__('By role')}
        </Button>
        <span class="jp-rootbound-Spacer" />
        {onDays && (
          <select
            class="jp-rootbound-Select"
            aria-label={trans.__('Span')}
            value={String(days)}
            onChange={event => {
              const chosen = Number(event.currentTarget.value);
              setDays(chosen);
              onDays(chosen);
            }}
          >
            {[7, 30, 90, 365].map(days => (
              <option key={days} value={String(days)}>
                {trans.__('%1 days', String(days))}
              </option>
            ))}
          </select>
        )}
      </header>
      {problem && <ProblemBanner problem={problem} onRetry={() => void store.load()} />}
      {!list && !problem && <p class="jp-rootbound-Empty">{trans.__('Loading…')}</p>}
      {list && list.results.length === 0 && (
        <p class="jp-rootbound-Empty">{trans.__('No agent worked in these days.')}</p>
      )}
      {list && list.results.length > 0 && <Chart list={list} choice={{ ...choice, measure }} />}
    </section>
  );
}

function Chart({ list, choice }: { list: CostList; choice: CostChoice }): JSX.Element {
  const trans = useTrans();
  const series = seriesOf(list.results, choice, trans.__('others'));
  const days = daysOf(list);
  const sums = days.map(day =>
    series.reduce((sum, one) => sum + (one.values.get(day) ?? 0), 0)
  );
  const peak = Math.max(...sums, 0);
  const show = (value: number): string =>
    choice.measure === 'money' ? money(value) : compact(Math.round(value));
  const total = series.reduce((sum, one) => sum + one.total, 0);
  const unpriced = list.results.reduce((sum, row) => sum + row.unpriced_runs, 0);
  const wide = WIDTH / days.length;
  return (
    <div class="jp-rootbound-Page">
      <p>
        <strong>{show(total)}</strong>{' '}
        {choice.measure === 'money' ? trans.__('in all') : trans.__('tokens in all')}
        {choice.measure === 'money' && unpriced > 0 && (
          <span class="jp-rootbound-Muted">
            {' '}
            {trans._n(
              '%1 run of a model without a known price is not in it.',
              '%1 runs of models without a known price are not in it.',
              unpriced
            )}
          </span>
        )}
      </p>
      <figure class="jp-rootbound-CostChart">
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={trans.__('Use by day; at most %1. The table below has the numbers.', show(peak))}
        >
          {days.map((day, index) => {
            let below = 0;
            return (
              <g key={day}>
                <title>{`${day}: ${show(sums[index] ?? 0)}`}</title>
                <rect
                  class="jp-mod-day"
                  x={index * wide}
                  y={0}
                  width={wide}
                  height={HEIGHT}
                />
                {series.map((one, rank) => {
                  const value = one.values.get(day) ?? 0;
                  const height = peak > 0 ? (value / peak) * (HEIGHT - 4) : 0;
                  below += height;
                  return height > 0 ? (
                    <rect
                      key={one.name}
                      data-series={rank}
                      x={index * wide + wide * 0.1}
                      y={HEIGHT - below}
                      width={wide * 0.8}
                      height={height}
                    />
                  ) : null;
                })}
              </g>
            );
          })}
        </svg>
        <figcaption class="jp-rootbound-Timeline-scale">
          <span>{days[0]}</span>
          <span>{trans.__('at most %1 a day', show(peak))}</span>
          <span>{days[days.length - 1]}</span>
        </figcaption>
      </figure>
      <table class="jp-rootbound-Table">
        <caption class="jp-rootbound-hidden">{trans.__('Use by name')}</caption>
        <thead>
          <tr>
            <th scope="col">
              {choice.group === 'role' ? trans.__('Role') : trans.__('Project')}
            </th>
            <th scope="col">{choice.measure === 'money' ? trans.__('US $') : trans.__('Tokens')}</th>
            <th scope="col">{trans.__('Share')}</th>
          </tr>
        </thead>
        <tbody>
          {series.map((one, rank) => (
            <tr key={one.name}>
              <td>
                <span class="jp-rootbound-Key" data-series={rank} aria-hidden="true" /> {one.name}
              </td>
              <td>{show(one.total)}</td>
              <td>{total > 0 ? `${Math.round((one.total / total) * 100)} %` : '–'}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
