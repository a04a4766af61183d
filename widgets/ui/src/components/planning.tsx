import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';

import type { PlanTask } from '../model/work';
import type { PlanStore } from '../stores/plan';
import { Banner, Button, ProblemBanner } from './common';
import { useTrans } from './context';
import { Choices, Drawer, Field, FieldError, type Refusal, Submit, invalid, refusal, useElementId } from './form';
import { RoleSelect } from './taskform';

const TASK_FIELDS = ['title', 'description', 'acceptance', 'depends_on', 'priority', 'role'];

interface PlanningProps {
  store: PlanStore;
  openGuide?: () => void;
  onClose(): void;
}

/** A wish, the PM agent's plan of it, and the plan as the reader wants it. */
export function Planning({ store, openGuide, onClose }: PlanningProps): JSX.Element {
  const trans = useTrans();
  const found = store.decomposition.value;
  const problem = store.problem.value;
  const names = store.tasks.value.flatMap((_, index) =>
    TASK_FIELDS.map(name => `tasks[${index}].${name}`)
  );
  const refused = refusal(problem, ['prompt', ...names]);
  useEffect(() => {
    void store.open();
  }, [store]);
  const submit = async (): Promise<void> => {
    if (found?.status === 'READY') {
      if (await store.approve()) {
        onClose();
      }
    } else if (found?.status !== 'PENDING') {
      await store.ask();
    }
  };
  return (
    <Drawer
      label={trans.__('Plan with PM')}
      problem={problem}
      onClose={onClose}
      onSubmit={() => void submit()}
    >
      {refused.rest && (
        <ProblemBanner
          problem={refused.rest}
          onGuide={openGuide}
          onDismiss={() => {
            store.problem.value = null;
          }}
        />
      )}
      {found?.status === 'FAILED' && (
        <Banner tone="error">{found.failure_message ?? trans.__('No plan came of it.')}</Banner>
      )}
      {found?.status === 'PENDING' && (
        <Banner tone="calm">
          <span class="jp-rootbound-Spinner" aria-hidden="true" />
          {trans.__('The PM reads the repository and makes a plan of “%1”.', found.user_prompt)}
        </Banner>
      )}
      {found?.status === 'READY' ? (
        <Editor store={store} summary={found.plan?.summary ?? ''} refused={refused} />
      ) : (
        <Field label={trans.__('What do you want?')} error={refused.of('prompt')}>
          <textarea
            class="jp-rootbound-Input"
            rows={3}
            required
            disabled={found?.status === 'PENDING'}
            value={store.prompt.value}
            placeholder={trans.__('Make the failing tests pass')}
            onInput={event => {
              store.prompt.value = event.currentTarget.value;
            }}
          />
        </Field>
      )}
      <div class="jp-rootbound-Row">
        {found?.status === 'READY' ? (
          <>
            <Submit
              disabled={
                store.busy.value ||
                store.tasks.value.length === 0 ||
                store.tasks.value.some(task => !task.title.trim())
              }
            >
              {trans._n('Approve: make %1 task', 'Approve: make %1 tasks', store.tasks.value.length)}
            </Submit>
            <Button onClick={() => store.add()}>{trans.__('Add a task')}</Button>
            <Button onClick={() => store.drop()}>{trans.__('Ask again')}</Button>
          </>
        ) : (
          <Submit
            disabled={
              store.busy.value || found?.status === 'PENDING' || !store.prompt.value.trim()
            }
          >
            {trans.__('Ask for a plan')}
          </Submit>
        )}
        <Button onClick={onClose}>{trans.__('Close')}</Button>
      </div>
    </Drawer>
  );
}

interface EditorProps {
  store: PlanStore;
  summary: string;
  refused: Refusal;
}

function Editor({ store, summary, refused }: EditorProps): JSX.Element {
  const tasks = store.tasks.value;
  return (
    <>
      {summary && <p class="jp-rootbound-Text">{summary}</p>}
      <ol class="jp-rootbound-Plan">
        {tasks.map((task, index) => (
          <PlannedTask
            key={task.key}
            store={store}
            task={task}
            index={index}
            tasks={tasks}
            error={name => refused.of(`tasks[${index}].${name}`)}
          />
        ))}
      </ol>
    </>
  );
}

interface PlannedTaskProps {
  store: PlanStore;
  task: PlanTask;
  index: number;
  tasks: readonly PlanTask[];
  /** What is wrong with a field of it. */
  error(name: string): string | undefined;
}

function PlannedTask({ store, task, index, tasks, error }: PlannedTaskProps): JSX.Element {
  const trans = useTrans();
  const id = useElementId();
  // These share a row, and the place for what is wrong with them.
  const head = error('title') ?? error('role') ?? error('priority');
  const set = (fields: Partial<PlanTask>): void => store.change(index, fields);
  const { acceptance } = task;
  return (
    <li class="jp-rootbound-PlanTask" data-key={task.key}>
      <div class="jp-rootbound-Row">
        <input
          class="jp-rootbound-Input jp-mod-wide"
          aria-label={trans.__('Title of task %1', index + 1)}
          value={task.title}
          {...invalid(id, error('title'))}
          required
          maxLength={255}
          onInput={event => set({ title: event.currentTarget.value })}
        />
        <RoleSelect
          role={task.role}
          onChange={role => set({ role })}
          {...invalid(id, error('role'))}
        />
        <input
          class="jp-rootbound-Input jp-mod-number"
          type="number"
          aria-label={trans.__('Priority of task %1', index + 1)}
          title={trans.__('Priority')}
          value={task.priority ?? 0}
          {...invalid(id, error('priority'))}
          onInput={event => set({ priority: event.currentTarget.valueAsNumber || 0 })}
        />
        <Button
          label={trans.__('Move task %1 up', index + 1)}
          disabled={index === 0}
          onClick={() => store.move(index, -1)}
        >
          ↑
        </Button>
        <Button
          label={trans.__('Move task %1 down', index + 1)}
          disabled={index === tasks.length - 1}
          onClick={() => store.move(index, 1)}
        >
          ↓
        </Button>
        <Button label={trans.__('Take task %1 out', index + 1)} onClick={() => store.remove(index)}>
          ×
        </Button>
      </div>
      <FieldError id={id} error={head} />
      <Field label={trans.__('Description')} error={error('description')}>
        <textarea
          class="jp-rootbound-Input"
          rows={2}
          value={task.description}
          onInput={event => set({ description: event.currentTarget.value })}
        />
      </Field>
      <Field label={trans.__('Done when')} error={error('acceptance')}>
        <input
          class="jp-rootbound-Input"
          value={Array.isArray(acceptance) ? acceptance.join('; ') : (acceptance ?? '')}
          onInput={event => set({ acceptance: event.currentTarget.value || null })}
        />
      </Field>
      <Choices
        label={trans.__('Waits for')}
        options={tasks
          .filter(other => other.key !== task.key)
          .map(other => ({ key: other.key, title: other.title || other.key }))}
        error={error('depends_on')}
        chosen={task.depends_on ?? []}
        onChange={keys => set({ depends_on: keys })}
      />
      {(task.files ?? []).length > 0 && (
        <p class="jp-rootbound-Muted">
          {trans.__('Likely files: %1', (task.files ?? []).join(', '))}
        </p>
      )}
    </li>
  );
}
