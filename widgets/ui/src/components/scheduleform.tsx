import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { ProblemError, asProblem } from '../model/problem';
import {
  type Overlap,
  type Schedule,
  type ScheduleFields,
  type ScheduleKind,
  cronSentence,
  instant,
  parameterLines,
  readParameters
} from '../model/schedule';
import type { Project } from '../model/types';
import type { Schedules } from '../source/schedules';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { DraftNote, useDraft } from './draft';
import { ChooseFolder, Drawer, Field, type Refusal, Submit, refusal } from './form';
import { sentence } from './labels';

const TYPED_MS = 250;
const NICKNAMES = ['@hourly', '@daily', '@weekly', '@monthly', '30 2 * * MON-FRI'];

interface ScheduleFormProps {
  schedules: Schedules;
  /** The schedule to change; null for a new one. */
  schedule: Schedule | null;
  projects: readonly Project[];
  pickNotebook?: (() => Promise<string | null>) | undefined;
  onSaved(): void;
  onClose(): void;
}

type Form = Omit<ScheduleFields, 'parameters' | 'max_parallel' | 'budget'> & {
  parameters: string;
  max_parallel: string;
  budget: string;
};

const FIELDS = [
  'name',
  'project_id',
  'crontab',
  'timezone',
  'overlap',
  'prompt',
  'notebook',
  'parameters',
  'max_parallel',
  'budget'
];

function formOf(schedule: Schedule | null, projects: readonly Project[]): Form {
  const given = schedule;
  return {
    name: given?.name ?? '',
    project_id: given?.project_id ?? projects[0]?.id ?? '',
    kind: given?.kind ?? 'PLAN',
    crontab: given?.crontab ?? '',
    timezone: given?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    overlap: given?.overlap ?? 'SKIP',
    prompt: given?.prompt ?? '',
    notebook: given?.notebook ?? '',
    parameters: parameterLines(given?.parameters ?? {}),
    max_parallel: given?.max_parallel ? String(given.max_parallel) : '',
    budget: given?.budget ? String(given.budget) : ''
  };
}

function number(text: string): number | null {
  return text.trim() === '' ? null : Number(text);
}

/** A new schedule, or a change of one; what was typed stays when the server refuses it. */
export function ScheduleForm(props: ScheduleFormProps): JSX.Element {
  const { schedules, schedule, projects, onSaved, onClose } = props;
  const trans = useTrans();
  const draft = useDraft(`schedule ${schedule?.id ?? 'new'}`, formOf(schedule, projects));
  const form = draft.value;
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<Form>): void => draft.change(old => ({ ...old, ...change }));
  const isBatch = form.kind === 'BATCH';
  const refused = refusal(problem, FIELDS);

  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      const fields = { ...form, ...batchFields(form, isBatch, trans.__.bind(trans)) };
      await (schedule ? schedules.update(schedule.id, fields) : schedules.create(fields));
      draft.clear();
      onSaved();
    } catch (reason) {
      setProblem(asProblem(reason));
      setBusy(false);
    }
  };

  return (
    <Drawer
      label={schedule ? trans.__('Change the schedule') : trans.__('New schedule')}
      problem={problem}
      onClose={onClose}
      onSubmit={() => void submit()}
    >
      {refused.rest && <Banner tone="error">{sentence(refused.rest, trans)}</Banner>}
      <DraftNote draft={draft} />
      <div class="jp-rootbound-Row">
        <Field label={trans.__('Name')} error={refused.of('name')}>
          <input
            class="jp-rootbound-Input"
            required
            maxLength={255}
            value={form.name}
            ref={input => {
              if (input && !document.activeElement?.closest('.jp-rootbound-Drawer')) {
                input.focus();
              }
            }}
            onInput={event => set({ name: event.currentTarget.value })}
          />
        </Field>
        <Field label={trans.__('Project')} error={refused.of('project_id')}>
          <select
            class="jp-rootbound-Select"
            value={form.project_id}
            onChange={event => set({ project_id: event.currentTarget.value })}
          >
            {projects.map(project => (
              <option key={project.id} value={project.id}>
                {project.name}
              </option>
            ))}
          </select>
        </Field>
        <Field label={trans.__('What it starts')}>
          <select
            class="jp-rootbound-Select"
            value={form.kind}
            onChange={event => set({ kind: event.currentTarget.value as ScheduleKind })}
          >
            <option value="PLAN">{trans.__('A wish, planned by the PM agent')}</option>
            <option value="BATCH">{trans.__('A notebook')}</option>
          </select>
        </Field>
      </div>
      {isBatch ? (
        <Notebook {...props} form={form} set={set} refused={refused} />
      ) : (
        <Field label={trans.__('What shall be done')} error={refused.of('prompt')}>
          <textarea
            class="jp-rootbound-Input"
            rows={3}
            required
            value={form.prompt}
            onInput={event => set({ prompt: event.currentTarget.value })}
          />
        </Field>
      )}
      <Times schedules={schedules} form={form} set={set} refused={refused} />
      <div class="jp-rootbound-Row">
        <Submit disabled={busy}>
          {schedule ? trans.__('Save') : trans.__('Make the schedule')}
        </Submit>
        <Button onClick={onClose}>{trans.__('Close')}</Button>
      </div>
    </Drawer>
  );
}

/** What only a notebook has; a plan is saved without. */
function batchFields(
  form: Form,
  isBatch: boolean,
  say: (text: string, ...args: string[]) => string
): Pick<ScheduleFields, 'notebook' | 'prompt' | 'parameters' | 'max_parallel' | 'budget'> {
  if (!isBatch) {
    return { notebook: '', prompt: form.prompt, parameters: {}, max_parallel: null, budget: null };
  }
  try {
    const parameters = readParameters(form.parameters);
    const { notebook, prompt } = form;
    const max_parallel = number(form.max_parallel);
    return { notebook, prompt, parameters, max_parallel, budget: number(form.budget) };
  } catch (reason) {
    const line = reason instanceof Error ? reason.message : '';
    const detail = say('“%1” is no parameter; write name = value, one a line.', line);
    throw new ProblemError(detail, 'invalid', 400, null, new Map([['parameters', detail]]));
  }
}

interface PartProps {
  form: Form;
  set(change: Partial<Form>): void;
  refused: Refusal;
}

function Notebook({
  form,
  set,
  refused,
  pickNotebook
}: PartProps & Pick<ScheduleFormProps, 'pickNotebook'>): JSX.Element {
  const trans = useTrans();
  const limit = (
    label: string,
    key: 'max_parallel' | 'budget',
    limits: { min: number; max?: number; step: number | string }
  ): JSX.Element => (
    <Field label={label} error={refused.of(key)}>
      <input
        class="jp-rootbound-Input"
        type="number"
        {...limits}
        value={form[key]}
        onInput={event => set({ [key]: event.currentTarget.value })}
      />
    </Field>
  );
  return (
    <>
      <div class="jp-rootbound-Row">
        <Field label={trans.__('Notebook')} error={refused.of('notebook')} wide>
          <input
            class="jp-rootbound-Input"
            required
            placeholder={trans.__('/absolute/path/of/a/notebook.ipynb')}
            value={form.notebook}
            onInput={event => set({ notebook: event.currentTarget.value })}
          />
        </Field>
        <ChooseFolder pickFolder={pickNotebook} onChosen={notebook => set({ notebook })} />
      </div>
      <Field
        label={trans.__('Parameters, one a line: name = value')}
        error={refused.of('parameters')}
      >
        <textarea
          class="jp-rootbound-Input"
          rows={2}
          placeholder={'branch = main\nlimit = 5'}
          value={form.parameters}
          onInput={event => set({ parameters: event.currentTarget.value })}
        />
      </Field>
      <Field label={trans.__('Its parameter prompt (may be empty)')} error={refused.of('prompt')}>
        <textarea
          class="jp-rootbound-Input"
          rows={1}
          value={form.prompt}
          onInput={event => set({ prompt: event.currentTarget.value })}
        />
      </Field>
      <div class="jp-rootbound-Row">
        {limit(trans.__('Attempts at once, at most'), 'max_parallel', { min: 1, max: 64, step: 1 })}
        {limit(trans.__('Budget in US $'), 'budget', { min: 0, step: 'any' })}
      </div>
    </>
  );
}

/** The crontab with what it means, its clocks, and what happens when two runs meet. */
function Times({
  schedules,
  form,
  set,
  refused
}: PartProps & Pick<ScheduleFormProps, 'schedules'>): JSX.Element {
  const trans = useTrans();
  const [meaning, setMeaning] = useState<{ sentence: string; next: string[] } | null>(null);
  const [odd, setOdd] = useState<ProblemError | null>(null);
  const { crontab, timezone } = form;
  /** What is wrong as it stands; once it has a meaning, an earlier refusal is past. */
  const error = (name: 'crontab' | 'timezone'): string | undefined =>
    odd?.fields.get(name) ?? (meaning ? undefined : refused.of(name));
  useEffect(() => {
    let isOld = false;
    const timer = setTimeout(() => {
      if (crontab.trim() === '') {
        setMeaning(null);
        setOdd(null);
        return;
      }
      schedules.preview(crontab, timezone).then(
        found => {
          if (!isOld) {
            setMeaning({ sentence: cronSentence(found.crontab), next: found.next_runs });
            setOdd(null);
          }
        },
        (reason: unknown) => {
          if (!isOld) {
            setMeaning(null);
            setOdd(asProblem(reason));
          }
        }
      );
    }, TYPED_MS);
    return () => {
      isOld = true;
      clearTimeout(timer);
    };
  }, [crontab, timezone]);
  return (
    <>
      <div class="jp-rootbound-Row">
        <Field
          label={trans.__('Crontab: minute, hour, day, month, weekday')}
          error={error('crontab')}
        >
          <input
            class="jp-rootbound-Input"
            required
            list="jp-rootbound-crontabs"
            placeholder="30 2 * * MON-FRI"
            value={crontab}
            onInput={event => set({ crontab: event.currentTarget.value })}
          />
        </Field>
        <Field
          label={trans.__('Time zone')}
          error={error('timezone')}
        >
          <input
            class="jp-rootbound-Input"
            required
            list="jp-rootbound-zones"
            value={timezone}
            onInput={event => set({ timezone: event.currentTarget.value })}
          />
        </Field>
        <Field label={trans.__('When the last run still works')} error={refused.of('overlap')}>
          <select
            class="jp-rootbound-Select"
            value={form.overlap}
            onChange={event => set({ overlap: event.currentTarget.value as Overlap })}
          >
            <option value="SKIP">{trans.__('leave this one out')}</option>
            <option value="QUEUE">{trans.__('have it wait')}</option>
            <option value="REPLACE">{trans.__('cancel the old one')}</option>
          </select>
        </Field>
      </div>
      <datalist id="jp-rootbound-crontabs">
        {NICKNAMES.map(one => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <datalist id="jp-rootbound-zones">
        {['UTC', ...Intl.supportedValuesOf('timeZone')].map(one => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <p class="jp-rootbound-Schedule-meaning" role="status">
        {meaning && (
          <>
            <strong>{meaning.sentence}</strong>{' '}
            <span class="jp-rootbound-Muted">
              {trans.__('Next: %1', meaning.next.map(at => instant(at, timezone)).join(' · '))}
            </span>
          </>
        )}
        {odd && !odd.fields.has('crontab') && !odd.fields.has('timezone') && sentence(odd, trans)}
      </p>
    </>
  );
}
