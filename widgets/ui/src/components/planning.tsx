import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';

import type { PlanTask } from '../model/work';
import type { PlanStore } from '../stores/plan';
import { Banner, Button, ProblemBanner } from './common';
import { useTrans } from './context';
import { Choices, Drawer, Field, Submit } from './form';
import { RoleSelect } from './taskform';

interface PlanningProps {
  store: PlanStore;
  onClose(): void;
}

/** A wish, the PM agent's plan of it, and the plan as the reader wants it. */
export function Planning({ store, onClose }: PlanningProps): JSX.Element {
  const trans = useTrans();
  const found = store.decomposition.value;
  const problem = store.problem.value;
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
    <Drawer label={trans.__('Plan with PM')} onClose={onClose} onSubmit={() => void submit()}>
      {problem && (
        <ProblemBanner
          problem={problem}
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
        <Editor store={store} summary={found.plan?.summary ?? ''} />
      ) : (
        <Field label={trans.__('What do you want?')}>
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

function Editor({ store, summary }: { store: PlanStore; summary: string }): JSX.Element {
  const tasks = store.tasks.value;
  return (
    <>
      {summary && <p class="jp-rootbound-Text">{summary}</p>}
      <ol class="jp-rootbound-Plan">
        {tasks.map((task, index) => (
          <PlannedTask key={task.key} store={store} task={task} index={index} tasks={tasks} />
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
}

function PlannedTask({ store, task, index, tasks }: PlannedTaskProps): JSX.Element {
  const trans = useTrans();
  const set = (fields: Partial<PlanTask>): void => store.change(index, fields);
  const { acceptance } = task;
  return (
    <li class="jp-rootbound-PlanTask" data-key={task.key}>
      <div class="jp-rootbound-Row">
        <input
          class="jp-rootbound-Input jp-mod-wide"
          aria-label={trans.__('Title of task %1', index + 1)}
          value={task.title}
          required
          maxLength={255}
          onInput={event => set({ title: event.currentTarget.value })}
        />
        <RoleSelect role={task.role} onChange={role => set({ role })} />
        <input
          class="jp-rootbound-Input jp-mod-number"
          type="number"
          aria-label={trans.__('Priority of task %1', index + 1)}
          title={trans.__('Priority')}
          value={task.priority ?? 0}
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
      <Field label={trans.__('Description')}>
        <textarea
          class="jp-rootbound-Input"
          rows={2}
          value={task.description}
          onInput={event => set({ description: event.currentTarget.value })}
        />
      </Field>
      <Field label={trans.__('Done when')}>
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
