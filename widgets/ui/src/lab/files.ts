import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, InputDialog, Notification, showDialog } from '@jupyterlab/apputils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import { FileDialog, type IFileBrowserFactory } from '@jupyterlab/filebrowser';
import type { Contents } from '@jupyterlab/services';

import { sentence } from '../components/labels';
import { asProblem } from '../model/problem';
import type { Task } from '../model/types';
import type { LabTransport } from './transport';
import { tell, textArgument } from './commands';
import { rootboundIcon } from './icons';
import type { PanelContext } from './panels';

export namespace FileCommandIDs {
  export const grantRoot = 'rootbound:grant-root';
  export const reference = 'rootbound:reference';
}

/** Turns paths of Jupyter's file browser into paths of the machine. */
export class FilePlaces {
  private root: string | null | undefined;

  constructor(
    private readonly context: PanelContext,
    private readonly contents: Contents.IManager
  ) {}

  /**
   * The path on this machine.
   *
   * @throws ProblemError when the files of this server are not on its disk.
   */
  async onMachine(path: string): Promise<string | null> {
    if (this.contents.driveName(path) !== '') {
      // Another drive's files lie elsewhere.
      return null;
    }
    this.root ??= (await this.context.machine.stack()).files_root ?? null;
    if (this.root === null) {
      return null;
    }
    const local = this.contents.localPath(path);
    return local === '' ? this.root : `${this.root.replace(/\/$/, '')}/${local}`;
  }
}

/** Let the user choose a folder in Lab's own dialog. */
export async function pickFolder(
  manager: IDocumentManager,
  places: FilePlaces,
  { trans }: PanelContext
): Promise<string | null> {
  const answer = await FileDialog.getExistingDirectory({
    manager,
    title: trans.__('Choose a folder'),
    label: trans.__('Folders outside the one that Jupyter serves can be typed in instead.')
  });
  const chosen = answer.value?.[0];
  return answer.button.accept && chosen ? places.onMachine(chosen.path) : null;
}

/** Let the user choose a notebook in Lab's own dialog. */
export async function pickNotebook(
  manager: IDocumentManager,
  places: FilePlaces,
  { trans }: PanelContext
): Promise<string | null> {
  const answer = await FileDialog.getOpenFiles({
    manager,
    title: trans.__('Choose a notebook'),
    label: trans.__('Notebooks outside the folder that Jupyter serves can be typed in instead.'),
    filter: ({ type }) => (type === 'notebook' || type === 'directory' ? {} : null)
  });
  const chosen = answer.value?.[0];
  // Without a choice the dialog answers with the folder that it shows.
  return answer.button.accept && chosen?.type === 'notebook' ? places.onMachine(chosen.path) : null;
}

/** “Grant as writable root” and “Reference in a task”, for the file browser and the palette. */
export function addFileCommands(
  app: JupyterFrontEnd,
  context: PanelContext,
  transport: LabTransport,
  places: FilePlaces,
  factory: IFileBrowserFactory | null
): void {
  const { trans } = context;
  const selected = (): Contents.IModel[] => [
    ...(factory?.tracker.currentWidget?.selectedItems() ?? [])
  ];
  /** The chosen places on the machine; tells the user when there are none. */
  const chosen = async (args: { readonly [key: string]: unknown }): Promise<string[]> => {
    const given = textArgument(args, 'path');
    if (given !== null) {
      return [given];
    }
    const paths = await Promise.all(selected().map(item => places.onMachine(item.path)));
    const found = paths.filter(path => path !== null);
    if (found.length < paths.length) {
      Notification.error(trans.__('These files do not lie on this machine’s disk.'));
      return [];
    }
    return found;
  };

  app.commands.addCommand(FileCommandIDs.grantRoot, {
    label: trans.__('Grant as Writable Root'),
    caption: trans.__('Let agents write in this folder'),
    icon: rootboundIcon,
    execute: async args => {
      let [path] = await chosen(args);
      path ??= (await context.pickFolder?.()) ?? undefined;
      if (path === undefined) {
        return;
      }
      const answer = await showDialog({
        title: trans.__('Grant as Writable Root'),
        body: trans.__('Every later run of your agents may write in %1.', path),
        buttons: [Dialog.cancelButton(), Dialog.okButton({ label: trans.__('Grant') })]
      });
      if (answer.button.accept) {
        await tell(
          context.machine.grantRoot(path),
          trans.__('Agents may write in %1.', path),
          trans
        );
      }
    }
  });

  app.commands.addCommand(FileCommandIDs.reference, {
    label: trans.__('Reference in a Task…'),
    caption: trans.__('Start an attempt that may read these files'),
    icon: rootboundIcon,
    execute: async args => {
      const paths = await chosen(args);
      if (paths.length === 0) {
        return;
      }
      try {
        const task = await askForTask(context, transport, paths);
        if (task) {
          const path = `api/tasks/${task.id}/attempts/`;
          const made = (await transport.request('POST', path, { reference_paths: paths })) as {
            id: string;
          };
          context.openAttempt(made.id);
        }
      } catch (reason) {
        Notification.error(sentence(asProblem(reason), trans), { autoClose: false });
      }
    }
  });
}

/** Ask which task's next attempt shall know the files. */
async function askForTask(
  { machine, trans }: PanelContext,
  transport: LabTransport,
  paths: readonly string[]
): Promise<Task | null> {
  const projects = await machine.listProjects();
  const lists = await Promise.all(
    projects.map(async project => {
      const path = `api/projects/${project.id}/tasks/?limit=200`;
      const answer = (await transport.request('GET', path)) as { results: Task[] };
      return answer.results.map(task => ({ name: `${project.name}: ${task.title}`, task }));
    })
  );
  const open = lists.flat().filter(({ task }) => task.status === 'TODO');
  if (open.length === 0) {
    await showDialog({
      title: trans.__('Reference in a Task'),
      body: trans.__('No task waits to be started. Make one on the task board.'),
      buttons: [Dialog.okButton()]
    });
    return null;
  }
  const answer = await InputDialog.getItem({
    title: trans.__('Reference in a Task'),
    label: trans.__('An attempt is started that may read %1.', paths.join(', ')),
    items: open.map(({ name }) => name),
    okLabel: trans.__('Start the attempt')
  });
  return open.find(({ name }) => name === answer.value)?.task ?? null;
}
