import type { ISettingRegistry } from '@jupyterlab/settingregistry';

import type { NotificationLevel } from './notify';

export const PLUGIN_ID = '@rootbound/lab:plugin';

/** The user's settings, as they are now; the schema's defaults until they are read. */
export class Settings {
  notifications: NotificationLevel = 'needed';
  statusBar = true;

  /**
   * @param changed Called whenever the settings are read or changed.
   */
  async follow(registry: ISettingRegistry, changed: () => void): Promise<void> {
    const settings = await registry.load(PLUGIN_ID);
    const read = (): void => {
      const { notifications, statusBar } = settings.composite;
      if (notifications === 'all' || notifications === 'needed' || notifications === 'off') {
        this.notifications = notifications;
      }
      this.statusBar = statusBar !== false;
      changed();
    };
    settings.changed.connect(read);
    read();
  }
}
