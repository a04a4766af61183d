import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { ProblemError, asProblem } from '../model/problem';
import type { AgentRole, Task } from '../model/types';
import { ROLES, type TaskFields, fieldsOf } from '../model/work';
import type { Work } from '../source/work';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { sentence } from './labels';
import { DraftNote, useDraft } from './draft';
import { Choices, Drawer, Field, type Invalid, Submit, refusal } from './form';

const EMPTY: TaskFields = {
  title: '',
  description: '',
  agent_role: 'BACKEND',
  priority: 0,
  dependencies: [],
  auto_start: false
};

const TASK_FIELDS = ['title', 'description', 'agent_role', 'priority', 'dependencies'];
interface TaskFormProps {
  work: Work;
  projectId: string;
  /** The task to change; null for a new one. */
  task: Task | null;
  others: readonly Task[];
  onClose(): void;
}

/** A new task, or a change of one; what was typed stays when the server refuses it. */
export function TaskForm({ work, projectId, task, others, onClose }: TaskFormProps): JSX.Element {
  const trans = useTrans();
  // A draft is of the task as it was seen then; saving it over a later one is asked for.
  const draft = useDraft(task ? `task ${task.id}` : `new task ${projectId}`, {
    version: task?.version ?? 0,
    fields: task ? fieldsOf(task) : EMPTY
  });
  const { fields } = draft.value;
  const seen = task && { ...task, version: draft.value.version };
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<TaskFields>): void =>
    draft.change(old => ({ ...old, fields: { ...old.fields, ...change } }));
  const latest = task ? (others.find(one => one.id === task.id) ?? null) : null;
  const refused = refusal(problem, TASK_FIELDS);
  const isStale = problem?.code === 'version-conflict';

  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      await (seen ? work.updateTask(seen, fields) : work.createTask(projectId, fields));
      draft.clear();
      onClose();
    } catch (reason) {
      setProblem(asProblem(reason));
      setBusy(false);
    }
  };

  return (
    <Drawer
      label={task ? trans.__('Change the task') : trans.__('New task')}
      onClose={onClose}
      problem={problem}
      onSubmit={() => void submit()}
    >
      {refused.rest && (
        <Banner
          tone={isStale ? 'warn' : 'error'}
          action={
            isStale && latest
              ? {
                  label: trans.__('Save mine over it'),
                  run: () => {
                    draft.set({ version: latest.version, fields });
                    setProblem(null);
                  }
                }
              : undefined
          }
        >
          {isStale && latest
            ? trans.__(
                'Somebody changed this task meanwhile; it is “%1” now. What you typed is kept.',
                latest.title
              )
            : sentence(refused.rest, trans)}
        </Banner>
      )}
      <DraftNote draft={draft} />
      <Field label={trans.__('What shall be done')} error={refused.of('title')}>
        <input
          class="jp-rootbound-Input"
          required
          maxLength={255}
          value={fields.title}
          ref={input => {
            if (input && !document.activeElement?.closest('.jp-rootbound-Drawer')) {
              input.focus();
            }
          }}
          onInput={event => set({ title: event.currentTarget.value })}
        />
      </Field>
      <Field
        label={trans.__('More about it (may be empty)')}
        error={refused.of('description')}
      >
        <textarea
          class="jp-rootbound-Input"
          rows={3}
          value={fields.description}
          onInput={event => set({ description: event.currentTarget.value })}
        />
      </Field>
      <div class="jp-rootbound-Row">
        <Field label={trans.__('Role')} error={refused.of('agent_role')}>
          <RoleSelect role={fields.agent_role} onChange={role => set({ agent_role: role })} />
        </Field>
        <Field label={trans.__('Priority')} error={refused.of('priority')}>
          <input
            class="jp-rootbound-Input"
            type="number"
            value={fields.priority}
            onInput={event => set({ priority: event.currentTarget.valueAsNumber || 0 })}
          />
        </Field>
        <label>
          <input
            type="checkbox"
            checked={fields.auto_start}
            onChange={event => set({ auto_start: event.currentTarget.checked })}
          />{' '}
          {trans.__('Start by itself when what it waits for is done')}
        </label>
      </div>
      <Choices
        label={trans.__('Waits for')}
        options={others
          .filter(one => one.id !== task?.id)
          .map(one => ({ key: one.id, title: one.title }))}
        error={refused.of('dependencies')}
        chosen={fields.dependencies}
        onChange={dependencies => set({ dependencies })}
      />
      <div class="jp-rootbound-Row">
        <Submit disabled={busy || !fields.title.trim()}>
          {task ? trans.__('Save') : trans.__('Add the task')}
        </Submit>
        <Button onClick={onClose}>{trans.__('Close')}</Button>
        {task && (
          <Button
            kind="danger"
            disabled={busy}
            onClick={() => {
              work.deleteTask(task.id).then(
                () => {
                  draft.clear();
                  onClose();
                },
                (reason: unknown) => setProblem(asProblem(reason))
              );
            }}
          >
            {trans.__('Delete the task')}
          </Button>
        )}
      </div>
    </Drawer>
  );
}

interface RoleSelectProps extends Invalid {
  role: AgentRole;
  onChange(role: AgentRole): void;
}

export function RoleSelect({ role, onChange, ...aria }: RoleSelectProps): JSX.Element {
  return (
    <select
      {...aria}
      class="jp-rootbound-Select"
      value={role}
      onChange={event => onChange(event.currentTarget.value as AgentRole)}
    >
      {ROLES.map(one => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}
