import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { ProblemError, asProblem } from '../model/problem';
import type { AgentRole, Project, Task } from '../model/types';
import { ROLES, type TaskFields, fieldsOf } from '../model/work';
import type { Work } from '../source/work';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { sentence } from './labels';
import { DraftNote, useDraft } from './draft';
import { ChooseFolder, Choices, Drawer, Field, type Invalid, Submit, refusal } from './form';

const EMPTY: TaskFields = {
  title: '',
  description: '',
  agent_role: 'BACKEND',
  priority: 0,
  dependencies: [],
  auto_start: false
};

const TASK_FIELDS = ['title', 'description', 'agent_role', 'priority', 'dependencies'];
const PROJECT_FIELDS = [
  'path',
  'repo_path',
  'name',
  'config.install_cmd',
  'config.lint_cmd',
  'config.test_cmd'
];

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

interface ProjectFormProps {
  work: Work;
  pickFolder?: () => Promise<string | null>;
  onMade(project: Project): void;
  onClose(): void;
}

/** A project of a repository, and the grant that it needs. */
export function ProjectForm(props: ProjectFormProps): JSX.Element {
  const { work, pickFolder, onMade, onClose } = props;
  const trans = useTrans();
  const draft = useDraft('new project', { name: '', path: '', install: '', lint: '', test: '' });
  const form = draft.value;
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<typeof form>): void => draft.change(old => ({ ...old, ...change }));
  const path = form.path.trim().replace(/(.)\/+$/, '$1');

  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      await work.grantRoot(path).catch((reason: unknown) => {
        if (asProblem(reason).code !== 'root-exists') {
          throw reason;
        }
      });
      const project = await work.createProject({
        name: form.name.trim() || path.split('/').pop() || path,
        repo_path: path,
        config: { install_cmd: form.install, lint_cmd: form.lint, test_cmd: form.test }
      });
      draft.clear();
      onMade(project);
    } catch (reason) {
      setProblem(asProblem(reason));
      setBusy(false);
    }
  };

  const refused = refusal(problem, PROJECT_FIELDS);
  const line = (
    label: string,
    key: keyof typeof form,
    placeholder: string,
    names: string[],
    required = false
  ): JSX.Element => (
    <Field label={label} error={refused.of(...names)}>
      <input
        class="jp-rootbound-Input"
        value={form[key]}
        placeholder={placeholder}
        required={required}
        onInput={event => set({ [key]: event.currentTarget.value })}
      />
    </Field>
  );

  return (
    <Drawer
      label={trans.__('New project')}
      problem={problem}
      onClose={onClose}
      onSubmit={() => void submit()}
    >
      {refused.rest && <Banner tone="error">{sentence(refused.rest, trans)}</Banner>}
      <DraftNote draft={draft} />
      {line(trans.__('Folder of a git repository'), 'path', trans.__('/absolute/path'), ['path', 'repo_path'], true)}
      <ChooseFolder pickFolder={pickFolder} onChosen={path => set({ path })} />
      {line(trans.__('Name (default: the folder’s)'), 'name', path.split('/').pop() ?? '', ['name'])}
      {line(
        trans.__('Command that installs it (may be empty)'),
        'install',
        'python3 -m venv .venv && .venv/bin/pip install -e .',
        ['config.install_cmd']
      )}
      {line(trans.__('Command that checks its style (may be empty)'), 'lint', 'ruff check .', ['config.lint_cmd'])}
      {line(trans.__('Command that tests it'), 'test', 'python3 -m pytest -q', ['config.test_cmd'], true)}
      <p class="jp-rootbound-Muted">
        {trans.__(
          'The folder is granted for writing. Agents work on branches of their own beside it; nothing is merged until you approve.'
        )}
      </p>
      <div class="jp-rootbound-Row">
        <Submit disabled={busy || !path || !form.test.trim()}>
          {trans.__('Grant the folder and make the project')}
        </Submit>
        <Button onClick={onClose}>{trans.__('Close')}</Button>
      </div>
    </Drawer>
  );
}
