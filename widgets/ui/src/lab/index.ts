/** JupyterLab's plugin: the board in the side bar, and commands for everything else. */
import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { HttpSource } from '../source/http';
import { HttpMachine } from '../source/machine';
import { HttpSchedules } from '../source/schedules';
import { HttpWork } from '../source/work';
import { CommandIDs, PALETTE_COMMANDS, addCommands } from './commands';
import { FileCommandIDs, FilePlaces, addFileCommands, pickFolder, pickNotebook } from './files';
import { addNotifications } from './notify';
import { type MainPanel, type PanelContext, boardPanel, label } from './panels';
import { addReports } from './reports';
import { Pulse } from './pulse';
import { addRunning } from './running';
import { PLUGIN_ID, Settings } from './settings';
import { StatusItem, addStatusItem } from './status';
import { runInTerminal } from './terminal';
import { LabTransport } from './transport';
import { UnsavedReports } from './unsaved';

// 501 to 899 is the side bar's range for extensions.
const SIDE_BAR_RANK = 620;

const MAX_IDLE_WAIT_MS = 1000;

/** When the page has nothing to do, or soon. */
function idle(): Promise<void> {
  return new Promise(resolve => {
    if ('requestIdleCallback' in window) {
      requestIdleCallback(() => resolve(), { timeout: MAX_IDLE_WAIT_MS });
    } else {
      setTimeout(resolve, 0);
    }
  });
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: 'Task board, attempt stream, file audit and service status of Rootbound.',
  autoStart: true,
  optional: [
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    ITranslator,
    ISettingRegistry,
    IStatusBar,
    IRunningSessionManagers,
    IDocumentManager,
    IFileBrowserFactory
  ],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null,
    registry: ISettingRegistry | null,
    statusBar: IStatusBar | null,
    running: IRunningSessionManagers | null,
    documents: IDocumentManager | null,
    files: IFileBrowserFactory | null
  ): void => {
    if (PageConfig.getOption('rootbound') !== 'true') {
      // The server extension is not there: nothing of this could work, so nothing is shown.
      return;
    }
    const trans = (translator ?? nullTranslator).load('rootbound');
    const transport = new LabTransport(app.serviceManager.serverSettings);
    const run = (command: string, args = {}): void => void app.commands.execute(command, args);
    const context: PanelContext = {
      source: new HttpSource(transport),
      machine: new HttpMachine(transport),
      work: new HttpWork(transport),
      schedules: new HttpSchedules(transport),
      trans,
      openAttempt: attemptId => run(CommandIDs.openAttempt, { attemptId }),
      openAudit: projectId => run(CommandIDs.openAudit, { projectId }),
      openBoard: () => run(CommandIDs.openBoard),
      openStatus: () => run(CommandIDs.openStatus),
      openRoots: () => run(CommandIDs.openRoots),
      openSchedules: () => run(CommandIDs.openSchedules),
      openGuide: () => run(CommandIDs.openGuide),
      startStack: () => context.machine.startStack(),
      runInTerminal: command => runInTerminal(app, command)
    };
    const places = new FilePlaces(context, app.serviceManager.contents);
    if (documents) {
      context.pickFolder = () => pickFolder(documents, places, context);
      context.pickNotebook = () => pickNotebook(documents, places, context);
      context.openReport = addReports(app, documents, context.schedules);
    }

    const side = label(
      boardPanel(context),
      'rootbound-side-panel',
      '',
      trans.__('Rootbound: tasks and agents')
    );
    side.title.closable = false;
    side.node.setAttribute('role', 'region');
    side.node.setAttribute('aria-label', trans.__('Rootbound: tasks and agents'));
    app.shell.add(side, 'left', { rank: SIDE_BAR_RANK, type: 'Rootbound' });
    restorer?.add(side, 'rootbound-side-panel');

    const tracker = new WidgetTracker<MainPanel>({ namespace: 'rootbound' });
    const pulse = new Pulse(transport);
    addCommands({ app, context, tracker }, side, pulse);
    addFileCommands(app, context, transport, places, files);
    void restorer?.restore(tracker, {
      command: CommandIDs.restore,
      args: panel => ({ ...panel.place }),
      name: panel => panel.id
    });

    const category = trans.__('Rootbound');
    for (const command of [...PALETTE_COMMANDS, FileCommandIDs.grantRoot]) {
      palette?.addItem({ command, category });
    }
    const cards = [
      CommandIDs.openBoard,
      CommandIDs.openAudit,
      CommandIDs.openSchedules,
      CommandIDs.openGuide
    ];
    for (const [rank, command] of cards.entries()) {
      launcher?.add({ command, category, rank, args: { isLauncher: true } });
    }

    const settings = new Settings();
    if (registry) {
      // Without its settings the defaults hold.
      settings.follow(registry, () => pulse.told()).catch(() => undefined);
    }
    if (statusBar) {
      const item = new StatusItem(pulse, context, context.openStatus);
      addStatusItem(statusBar, item, () => settings.statusBar, pulse);
    }
    if (running) {
      addRunning(running, pulse, context);
    }
    addNotifications(pulse, {
      context,
      level: () => settings.notifications,
      isWatched: attemptId =>
        document.hasFocus() &&
        app.shell.currentWidget?.id ===
          (attemptId === null ? 'rootbound-schedules' : `rootbound-attempt-${attemptId}`)
    });
    // After Lab's own first requests and drawing, so that opening Lab takes no longer.
    void app.restored.then(idle).then(() => {
      pulse.start();
      if (documents) {
        new UnsavedReports(app, documents, places, transport, pulse).start();
      }
    });
  }
};

export default plugin;
