/** JupyterLab's plugin: the board in the side bar, and commands for everything else. */
import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { HttpSource } from '../source/http';
import { CommandIDs, PALETTE_COMMANDS, addCommands } from './commands';
import { type PanelContext, boardPanel, label } from './panels';
import { LabTransport } from './transport';

// 501 to 899 is the side bar's range for extensions.
const SIDE_BAR_RANK = 620;

const plugin: JupyterFrontEndPlugin<void> = {
  id: '@rootbound/lab:plugin',
  description: 'Task board, attempt stream, file audit and service status of Rootbound.',
  autoStart: true,
  optional: [ICommandPalette, ILauncher, ILayoutRestorer, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('rootbound');
    const context: PanelContext = {
      source: new HttpSource(new LabTransport(app.serviceManager.serverSettings)),
      trans,
      openAttempt: attemptId => void app.commands.execute(CommandIDs.openAttempt, { attemptId }),
      openAudit: projectId => void app.commands.execute(CommandIDs.openAudit, { projectId })
    };

    const side = label(
      boardPanel(context),
      'rootbound-side-panel',
      '',
      trans.__('Rootbound: tasks and agents')
    );
    side.title.closable = false;
    app.shell.add(side, 'left', { rank: SIDE_BAR_RANK, type: 'Rootbound' });
    restorer?.add(side, 'rootbound-side-panel');

    addCommands(app, context, side);
    const category = trans.__('Rootbound');
    for (const command of PALETTE_COMMANDS) {
      palette?.addItem({ command, category });
    }
    launcher?.add({
      command: CommandIDs.openBoard,
      category,
      rank: 0,
      args: { isLauncher: true }
    });
  }
};

export default plugin;
