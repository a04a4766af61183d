import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, InputDialog, Notification, type WidgetTracker, showDialog } from '@jupyterlab/apputils';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Widget } from '@lumino/widgets';

import { sentence } from '../components/labels';
import { asProblem } from '../model/problem';
import type { LiveAttempt } from '../model/machine';
import type { Trans } from '../model/trans';
import type { Attempt } from '../model/types';
import { rootboundIcon } from './icons';
import {
  MainPanel,
  type PanelContext,
  attemptPanel,
  auditPanel,
  boardPanel,
  costPanel,
  guidePanel,
  label,
  rootsPanel,
  schedulesPanel,
  stackPanel
} from './panels';
import type { Pulse } from './pulse';

export namespace CommandIDs {
  export const openBoard = 'rootbound:open-board';
  export const showPanel = 'rootbound:show-panel';
  export const openAttempt = 'rootbound:open-attempt';
  export const openAudit = 'rootbound:open-audit';
  export const openStatus = 'rootbound:open-status';
  export const openRoots = 'rootbound:open-roots';
  export const openCost = 'rootbound:open-cost';
  export const openSchedules = 'rootbound:open-schedules';
  export const openGuide = 'rootbound:open-guide';
  export const startServices = 'rootbound:start-services';
  export const restartService = 'rootbound:restart-service';
  export const cancelAttempt = 'rootbound:cancel-attempt';
  /** Opens a panel of a saved layout: `command` with `args`. */
  export const restore = 'rootbound:restore';
}

/** Commands that make sense without arguments; these go to the palette. */
export const PALETTE_COMMANDS: readonly string[] = [
  CommandIDs.openBoard,
  CommandIDs.showPanel,
  CommandIDs.openAttempt,
  CommandIDs.openAudit,
  CommandIDs.openStatus,
  CommandIDs.openRoots,
  CommandIDs.openCost,
  CommandIDs.openSchedules,
  CommandIDs.openGuide,
  CommandIDs.startServices,
  CommandIDs.restartService,
  CommandIDs.cancelAttempt
];

const SHORT_ID = 8;

export function textArgument(
  args: { readonly [key: string]: unknown },
  name: string
): string | null {
  const value = args[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** Tell what became of an action that has no view of its own. */
export async function tell(act: Promise<unknown>, done: string, trans: Trans): Promise<boolean> {
  try {
    await act;
    Notification.success(done, { autoClose: 4000 });
    return true;
  } catch (reason) {
    Notification.error(sentence(asProblem(reason), trans), { autoClose: false });
    return false;
  }
}

interface Shell {
  app: JupyterFrontEnd;
  context: PanelContext;
  tracker: WidgetTracker<MainPanel>;
}

/** Show a panel of the main area: the one with this id, or a new one. */
function show(shell: Shell, id: string, place: MainPanel['place'], make: () => Widget): void {
  const { app, tracker } = shell;
  let panel = tracker.find(candidate => candidate.id === id);
  if (!panel) {
    panel = new MainPanel(make(), id, place);
    app.shell.add(panel, 'main');
    void tracker.add(panel);
  }
  app.shell.activateById(panel.id);
}

/** Register every command; `sidePanel` is the side bar's board. */
export function addCommands(
  shell: Shell,
  sidePanel: Widget,
  pulse: Pulse
): void {
  const { app, context } = shell;
  const { commands } = app;
  const { trans } = context;

  addPanels(shell);
  addAttempts(shell, pulse);
  commands.addCommand(CommandIDs.showPanel, {
    label: trans.__('Show Rootbound Side Panel'),
    execute: () => app.shell.activateById(sidePanel.id)
  });
  commands.addCommand(CommandIDs.restore, {
    label: trans.__('Open a Rootbound Panel Again'),
    isVisible: () => false,
    execute: args => {
      const command = textArgument(args, 'command');
      if (command !== null && command.startsWith('rootbound:')) {
        return commands.execute(command, args['args'] as ReadonlyPartialJSONObject);
      }
      return undefined;
    }
  });
  commands.addCommand(CommandIDs.startServices, {
    label: trans.__('Start the Services'),
    caption: trans.__('Start the database, the queue, the worker and the local agent'),
    execute: async () => {
      await pulse.look();
      const text =
        pulse.state.stack === 'ready'
          ? trans.__('The services run already.')
          : trans.__('The services are starting.');
      await tell(context.machine.startStack(), text, trans);
      void pulse.look();
    }
  });
  commands.addCommand(CommandIDs.restartService, {
    label: trans.__('Restart a Service…'),
    execute: async args => {
      const name = textArgument(args, 'service') ?? (await askForService(context));
      if (name !== null) {
        await tell(
          context.machine.restartService(name),
          trans.__('%1 was restarted.', name),
          trans
        );
      }
    }
  });
  commands.addCommand(CommandIDs.cancelAttempt, {
    label: trans.__('Cancel an Attempt…'),
    caption: trans.__('Stop an agent at work; its branch and its record are kept'),
    execute: async args => {
      const id = textArgument(args, 'attemptId') ?? (await askForLive(context, pulse))?.id ?? null;
      if (id !== null) {
        await tell(
          context.source.cancelAttempt(id),
          trans.__('The attempt is being cancelled.'),
          trans
        );
        void pulse.look();
      }
    }
  });
}

function addPanels(shell: Shell): void {
  const { app, context } = shell;
  const { trans } = context;
  const add = (
    command: string,
    id: string,
    words: { open: string; title: string; caption: string },
    make: (context: PanelContext) => Widget
  ): void => {
    app.commands.addCommand(command, {
      label: args => (args['isLauncher'] ? words.title : words.open),
      caption: words.caption,
      icon: rootboundIcon,
      execute: () =>
        show(shell, id, { command, args: {} }, () =>
          label(make(context), `${id}-view`, words.title, words.caption)
        )
    });
  };
  add(
    CommandIDs.openBoard,
    'rootbound-board',
    {
      open: trans.__('Open Task Board'),
      title: trans.__('Task Board'),
      caption: trans.__('Tasks of a project and what the agents make of them')
    },
    boardPanel
  );
  add(
    CommandIDs.openStatus,
    'rootbound-status',
    {
      open: trans.__('Show Services and Confinement'),
      title: trans.__('Rootbound Services'),
      caption: trans.__('State of the services, and what this machine can enforce')
    },
    stackPanel
  );
  add(
    CommandIDs.openRoots,
    'rootbound-roots',
    {
      open: trans.__('Show Roots and Safety'),
      title: trans.__('Roots and Safety'),
      caption: trans.__('Folders that agents may write, and what is enforced')
    },
    rootsPanel
  );
  add(
    CommandIDs.openCost,
    'rootbound-cost',
    {
      open: trans.__('Show Cost'),
      title: trans.__('Cost'),
      caption: trans.__('Tokens and money by project, role and day')
    },
    costPanel
  );
  add(
    CommandIDs.openSchedules,
    'rootbound-schedules',
    {
      open: trans.__('Show Schedules'),
      title: trans.__('Schedules'),
      caption: trans.__('What starts by itself, when, and what came of it')
    },
    schedulesPanel
  );
  add(
    CommandIDs.openGuide,
    'rootbound-guide',
    {
      open: trans.__('Getting Started'),
      title: trans.__('Getting Started'),
      caption: trans.__('From nothing to the demo, or to an attempt of your own')
    },
    guidePanel
  );

  app.commands.addCommand(CommandIDs.openAudit, {
    label: args => (args['isLauncher'] ? trans.__('File Audit') : trans.__('Open File Audit')),
    caption: trans.__('Every file operation of the agents, allowed and denied'),
    icon: rootboundIcon,
    execute: args => {
      const projectId = textArgument(args, 'projectId');
      const id = `rootbound-audit-${projectId ?? 'all'}`;
      const place = { command: CommandIDs.openAudit, args: projectId ? { projectId } : {} };
      show(shell, id, place, () =>
        label(
          auditPanel(context, projectId),
          `${id}-view`,
          trans.__('File Audit'),
          trans.__('File operations of the agents')
        )
      );
    }
  });
}

/** Call an attempt's tab by its task, now that it is known. */
function nameTab(
  tracker: Shell['tracker'],
  id: string,
  attempt: Attempt,
  trans: Trans
): void {
  const title = tracker.find(panel => panel.id === id)?.title;
  if (title && attempt.task_title) {
    title.label = trans.__('%1 · %2', attempt.task_title, attempt.number);
    title.caption = trans.__('Attempt %1 of “%2”', attempt.number, attempt.task_title);
  }
}

function addAttempts({ app, context, tracker }: Shell, pulse: Pulse): void {
  const { trans } = context;
  app.commands.addCommand(CommandIDs.openAttempt, {
    label: trans.__('Open Attempt…'),
    caption: trans.__('Stream, changes and audit of one attempt'),
    icon: rootboundIcon,
    execute: async args => {
      const given = textArgument(args, 'attemptId') ?? (await askForAttempt(context, pulse));
      if (given === null) {
        return;
      }
      const short = given.slice(0, SHORT_ID);
      const place = { command: CommandIDs.openAttempt, args: { attemptId: given } };
      const id = `rootbound-attempt-${given}`;
      show({ app, context, tracker }, id, place, () =>
        label(
          attemptPanel(context, given, attempt => nameTab(tracker, id, attempt, trans)),
          `rootbound-attempt-view-${given}`,
          trans.__('Attempt %1', short),
          trans.__('Attempt %1', given)
        )
      );
    }
  });
}

/** One of those that are known to be at work or to wait; or any, by its id. */
async function askForAttempt({ trans }: PanelContext, pulse: Pulse): Promise<string | null> {
  await pulse.look();
  const { live, reviews, ended } = pulse.state;
  const known = new Map(
    [...live, ...reviews, ...ended].map(one => [
      `${one.project_name}: ${one.task_title} (${one.number})`,
      one.id
    ])
  );
  const title = trans.__('Open Attempt');
  const okLabel = trans.__('Open');
  if (known.size > 0) {
    const another = trans.__('Another, by its id…');
    const items = [...known.keys(), another];
    const { value } = await InputDialog.getItem({ title, items, okLabel });
    if (value !== another) {
      return value === null ? null : (known.get(value) ?? null);
    }
  }
  const answer = await InputDialog.getText({ title, label: trans.__('Attempt id'), okLabel });
  return answer.value?.trim() || null;
}

async function askForService({ machine, trans }: PanelContext): Promise<string | null> {
  const stack = await machine.stack();
  const names = Object.keys(stack.services ?? {});
  if (names.length === 0) {
    await showDialog({
      title: trans.__('Restart a Service'),
      body: trans.__('No service runs. Start them first.'),
      buttons: [Dialog.okButton()]
    });
    return null;
  }
  const answer = await InputDialog.getItem({
    title: trans.__('Restart a Service'),
    label: trans.__('Views lose their connection for some seconds and find it again.'),
    items: names,
    okLabel: trans.__('Restart')
  });
  return answer.value;
}

async function askForLive(
  { trans }: PanelContext,
  pulse: Pulse
): Promise<LiveAttempt | null> {
  await pulse.look();
  const { live } = pulse.state;
  if (live.length === 0) {
    await showDialog({
      title: trans.__('Cancel an Attempt'),
      body: trans.__('No attempt is at work.'),
      buttons: [Dialog.okButton()]
    });
    return null;
  }
  const items = live.map(one => `${one.project_name}: ${one.task_title} (${one.number})`);
  const answer = await InputDialog.getItem({
    title: trans.__('Cancel an Attempt'),
    label: trans.__('Its branch and its record are kept.'),
    items,
    okLabel: trans.__('Cancel the attempt')
  });
  return answer.value === null ? null : (live[items.indexOf(answer.value)] ?? null);
}
