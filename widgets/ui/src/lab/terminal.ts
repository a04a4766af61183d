import type { JupyterFrontEnd } from '@jupyterlab/application';

/**
 * Open a terminal of Lab and type a command into it.
 *
 * @returns False when this server has no terminals.
 */
export async function runInTerminal(app: JupyterFrontEnd, command: string): Promise<boolean> {
  const { terminals } = app.serviceManager;
  if (!terminals.isAvailable() || !app.commands.hasCommand('terminal:open')) {
    return false;
  }
  const session = await terminals.startNew();
  session.send({ type: 'stdin', content: [`${command}\r`] });
  await app.commands.execute('terminal:open', { name: session.name });
  return true;
}
