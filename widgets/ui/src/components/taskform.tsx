import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { ProblemError, asProblem } from '../model/problem';
import type { AgentRole, Project, Task } from '../model/types';
import { ROLES, type TaskFields, fieldsOf } from '../model/work';
import type { Work } from '../source/work';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { ChooseFolder, Choices, Drawer, Field, Submit } from './form';

const EMPTY: TaskFields = {
  title: '',
  description: '',
  agent_role: 'BACKEND',
  priority: 0,
  dependencies: [],
  auto_start: false
};

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
  const [seen, setSeen] = useState(task);
  const [fields, setFields] = useState<TaskFields>(task ? fieldsOf(task) : EMPTY);
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<TaskFields>): void => setFields({ ...fields, ...change });
  const latest = task ? (others.find(one => one.id === task.id) ?? null) : null;
  const isStale = problem?.code === 'version-conflict';

  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      await (seen ? work.updateTask(seen, fields) : work.createTask(projectId, fields));
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
      onSubmit={() => void submit()}
    >
      {problem && (
        <Banner
          tone={isStale ? 'warn' : 'error'}
          action={
            isStale && latest
              ? {
                  label: trans.__('Save mine over it'),
                  run: () => {
                    setSeen(latest);
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
            : problem.detail}
        </Banner>
      )}
      <Field label={trans.__('What shall be done')}>
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
      <Field label={trans.__('More about it (may be empty)')}>
        <textarea
          class="jp-rootbound-Input"
          rows={3}
          value={fields.description}
          onInput={event => set({ description: event.currentTarget.value })}
        />
      </Field>
      <div class="jp-rootbound-Row">
        <Field label={trans.__('Role')}>
          <RoleSelect role={fields.agent_role} onChange={role => set({ agent_role: role })} />
        </Field>
        <Field label={trans.__('Priority')}>
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
              work.deleteTask(task.id).then(onClose, (reason: unknown) => {
                setProblem(asProblem(reason));
              });
            }}
          >
            {trans.__('Delete the task')}
          </Button>
        )}
      </div>
    </Drawer>
  );
}

export function RoleSelect({
  role,
  onChange
}: {
  role: AgentRole;
  onChange(role: AgentRole): void;
}): JSX.Element {
  return (
    <select
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
  const [form, setForm] = useState({ name: '', path: '', install: '', lint: '', test: '' });
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<typeof form>): void => setForm({ ...form, ...change });
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
      onMade(project);
    } catch (reason) {
      setProblem(asProblem(reason));
      setBusy(false);
    }
  };

  const line = (
    label: string,
    key: keyof typeof form,
    placeholder: string,
    required = false
  ): JSX.Element => (
    <Field label={label}>
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
    <Drawer label={trans.__('New project')} onClose={onClose} onSubmit={() => void submit()}>
      {problem && <Banner tone="error">{problem.detail}</Banner>}
      {line(trans.__('Folder of a git repository'), 'path', trans.__('/absolute/path'), true)}
      <ChooseFolder pickFolder={pickFolder} onChosen={path => set({ path })} />
      {line(trans.__('Name (default: the folder’s)'), 'name', path.split('/').pop() ?? '')}
      {line(
        trans.__('Command that installs it (may be empty)'),
        'install',
        'python3 -m venv .venv && .venv/bin/pip install -e .'
      )}
      {line(trans.__('Command that checks its style (may be empty)'), 'lint', 'ruff check .')}
      {line(trans.__('Command that tests it'), 'test', 'python3 -m pytest -q', true)}
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
