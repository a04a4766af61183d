import type { JupyterFrontEnd } from '@jupyterlab/application';
import { InputDialog, MainAreaWidget } from '@jupyterlab/apputils';
import type { Widget } from '@lumino/widgets';

import { rootboundIcon } from './icons';
import {
  type PanelContext,
  attemptPanel,
  auditPanel,
  boardPanel,
  label,
  stackPanel
} from './panels';

export namespace CommandIDs {
  export const openBoard = 'rootbound:open-board';
  export const showPanel = 'rootbound:show-panel';
  export const openAttempt = 'rootbound:open-attempt';
  export const openAudit = 'rootbound:open-audit';
  export const openStatus = 'rootbound:open-status';
}

/** Commands that make sense without arguments; these go to the palette. */
export const PALETTE_COMMANDS: readonly string[] = [
  CommandIDs.openBoard,
  CommandIDs.showPanel,
  CommandIDs.openAttempt,
  CommandIDs.openAudit,
  CommandIDs.openStatus
];

const SHORT_ID = 8;

function textArgument(args: { readonly [key: string]: unknown }, name: string): string | null {
  const value = args[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** Register every command; `sidePanel` is the side bar's board. */
export function addCommands(
  app: JupyterFrontEnd,
  context: PanelContext,
  sidePanel: Widget
): void {
  const { commands, shell } = app;
  const { trans } = context;

  const show = (id: string, make: () => Widget): void => {
    let widget = [...shell.widgets('main')].find(candidate => candidate.id === id);
    if (!widget) {
      const content = make();
      const main = new MainAreaWidget({ content });
      main.toolbar.hide();
      main.id = id;
      main.title.icon = content.title.icon;
      main.title.label = content.title.label;
      main.title.caption = content.title.caption;
      main.title.closable = true;
      shell.add(main, 'main');
      widget = main;
    }
    shell.activateById(widget.id);
  };

  commands.addCommand(CommandIDs.openBoard, {
    label: args => (args['isLauncher'] ? trans.__('Task Board') : trans.__('Open Task Board')),
    caption: trans.__('Tasks of a project and what the agents make of them'),
    icon: rootboundIcon,
    execute: () =>
      show('rootbound-board', () =>
        label(
          boardPanel(context),
          'rootbound-board-view',
          trans.__('Task Board'),
          trans.__('Rootbound task board')
        )
      )
  });

  commands.addCommand(CommandIDs.showPanel, {
    label: trans.__('Show Rootbound Side Panel'),
    execute: () => shell.activateById(sidePanel.id)
  });

  commands.addCommand(CommandIDs.openAttempt, {
    label: trans.__('Open Attempt…'),
    caption: trans.__('Stream, changes and audit of one attempt'),
    execute: async args => {
      const given = textArgument(args, 'attemptId') ?? (await askForAttempt(context));
      if (given === null) {
        return;
      }
      const short = given.slice(0, SHORT_ID);
      show(`rootbound-attempt-${given}`, () =>
        label(
          attemptPanel(context, given),
          `rootbound-attempt-view-${given}`,
          trans.__('Attempt %1', short),
          trans.__('Attempt %1', given)
        )
      );
    }
  });

  commands.addCommand(CommandIDs.openAudit, {
    label: trans.__('Open File Audit'),
    caption: trans.__('Every file operation of the agents, allowed and denied'),
    icon: rootboundIcon,
    execute: args => {
      const projectId = textArgument(args, 'projectId');
      show(`rootbound-audit-${projectId ?? 'all'}`, () =>
        label(
          auditPanel(context, projectId),
          `rootbound-audit-view-${projectId ?? 'all'}`,
          trans.__('File Audit'),
          trans.__('File operations of the agents')
        )
      );
    }
  });

  commands.addCommand(CommandIDs.openStatus, {
    label: trans.__('Show Services and Confinement'),
    caption: trans.__('State of the services, and what this machine can enforce'),
    icon: rootboundIcon,
    execute: () =>
      show('rootbound-status', () =>
        label(
          stackPanel(context),
          'rootbound-status-view',
          trans.__('Rootbound Services'),
          trans.__('Services and confinement')
        )
      )
  });
}

async function askForAttempt({ trans }: PanelContext): Promise<string | null> {
  const answer = await InputDialog.getText({
    title: trans.__('Open Attempt'),
    label: trans.__('Attempt id')
  });
  return answer.value?.trim() || null;
}
