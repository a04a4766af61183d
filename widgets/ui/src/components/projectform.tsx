import type { InputHTMLAttributes, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { type ProblemError, asProblem } from '../model/problem';
import type { Project } from '../model/types';
import type { Branches } from '../model/work';
import type { Work } from '../source/work';
import { Banner, Button } from './common';
import { useTrans } from './context';
import { DraftNote, useDraft } from './draft';
import { ChooseFolder, Drawer, Field, Submit, refusal, useElementId } from './form';
import { sentence } from './labels';

const FIELDS = [
  'path',
  'repo_path',
  'name',
  'default_branch',
  'config.install_cmd',
  'config.lint_cmd',
  'config.test_cmd'
];

interface ProjectFormProps {
  work: Work;
  /** The project to change; null for a new one. */
  project: Project | null;
  pickFolder?: () => Promise<string | null>;
  onSaved(project: Project): void;
  onClose(): void;
}

/** A project of a repository and the grant that it needs, or a change of one. */
export function ProjectForm(props: ProjectFormProps): JSX.Element {
  const { work, project, pickFolder, onSaved, onClose } = props;
  const trans = useTrans();
  const draft = useDraft(project ? `project ${project.id}` : 'new project', {
    name: project?.name ?? '',
    path: project?.repo_path ?? '',
    branch: project?.default_branch ?? '',
    install: project?.config?.install_cmd ?? '',
    lint: project?.config?.lint_cmd ?? '',
    test: project?.config?.test_cmd ?? ''
  });
  const form = draft.value;
  const [problem, setProblem] = useState<ProblemError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<typeof form>): void => draft.change(old => ({ ...old, ...change }));
  const path = form.path.trim().replace(/(.)\/+$/, '$1');

  const save = async (): Promise<Project> => {
    const branch = form.branch?.trim();
    const fields = {
      ...(branch ? { default_branch: branch } : {}),
      config: { install_cmd: form.install, lint_cmd: form.lint, test_cmd: form.test }
    };
    if (project) {
      return work.updateProject(project.id, { name: form.name.trim() || project.name, ...fields });
    }
    const granted = await work.grantRoot(path);
    const name = form.name.trim() || path.split('/').pop() || path;
    return work.createProject({ name, repo_path: path, ...fields }).catch(async (reason: unknown) => {
      // A folder that no project came of stays as it was.
      if (granted !== null) {
        await work.withdrawRoot(granted).catch(() => undefined);
      }
      throw reason;
    });
  };
  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      const saved = await save();
      draft.clear();
      onSaved(saved);
    } catch (reason) {
      setProblem(asProblem(reason));
      setBusy(false);
    }
  };

  const refused = refusal(problem, FIELDS);
  const line = (
    label: string,
    key: keyof typeof form,
    placeholder: string,
    names: string[],
    more: InputHTMLAttributes<HTMLInputElement> = {}
  ): JSX.Element => (
    <Field label={label} error={refused.of(...names)}>
      <input
        class="jp-rootbound-Input"
        value={form[key]}
        placeholder={placeholder}
        {...more}
        onInput={event => set({ [key]: event.currentTarget.value })}
      />
    </Field>
  );
  const required = { required: true };
  const list = useElementId();
  const offered = useBranches(work, path);

  return (
    <Drawer
      label={project ? trans.__('Change the project') : trans.__('New project')}
      problem={problem}
      onClose={onClose}
      onSubmit={() => void submit()}
    >
      {refused.rest && <Banner tone="error">{sentence(refused.rest, trans)}</Banner>}
      <DraftNote draft={draft} />
      {project ? (
        <p class="jp-rootbound-Muted">
          <code>{project.repo_path}</code>
        </p>
      ) : (
        <div class="jp-rootbound-Row jp-mod-choose">
          {line(trans.__('Folder of a git repository'), 'path', trans.__('/absolute/path'), ['path', 'repo_path'], required)}
          <ChooseFolder pickFolder={pickFolder} onChosen={path => set({ path })} />
        </div>
      )}
      {line(trans.__('Name (default: the folder’s)'), 'name', path.split('/').pop() ?? '', ['name'])}
      {line(
        project
          ? trans.__('Branch that work starts from and is merged into')
          : trans.__('Branch that work starts from and is merged into (default: the one checked out)'),
        'branch',
        offered?.checked_out ?? '',
        ['default_branch'],
        { list, required: project !== null }
      )}
      <datalist id={list}>
        {offered?.branches.map(branch => (
          <option key={branch} value={branch} />
        ))}
      </datalist>
      {line(
        trans.__('Command that installs it (may be empty)'),
        'install',
        'python3 -m venv .venv && .venv/bin/pip install -e .',
        ['config.install_cmd']
      )}
      {line(trans.__('Command that checks its style (may be empty)'), 'lint', 'ruff check .', ['config.lint_cmd'])}
      {line(trans.__('Command that tests it'), 'test', 'python3 -m pytest -q', ['config.test_cmd'], required)}
      <p class="jp-rootbound-Muted">
        {project
          ? trans.__('Attempts that start from now on go by this; those at work keep what they began with.')
          : trans.__(
              'The folder is granted for writing. Agents work on branches of their own beside it; nothing is merged until you approve.'
            )}
      </p>
      <div class="jp-rootbound-Row">
        <Submit disabled={busy || !path || !form.test.trim()}>
          {project ? trans.__('Save') : trans.__('Grant the folder and make the project')}
        </Submit>
        <Button onClick={onClose}>{trans.__('Close')}</Button>
      </div>
    </Drawer>
  );
}

// A path is asked about when it has not been typed on for so long, in milliseconds.
const TYPED_MS = 300;

/** The branches of the repository, null while it is none. */
function useBranches(work: Work, path: string): Branches | null {
  const [found, setFound] = useState<Branches | null>(null);
  useEffect(() => {
    let wanted = true;
    setFound(null);
    const timer = setTimeout(() => {
      if (path.startsWith('/')) {
        work.branches(path).then(
          branches => wanted && setFound(branches),
          // The form says what is wrong with the folder when it is sent.
          () => undefined
        );
      }
    }, TYPED_MS);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [work, path]);
  return found;
}
