/** The screen of schedules, apart from the others because the words of crontabs weigh. */
import { type ScheduleHooks, SchedulesView } from './components/schedules';
import { type MountOptions, mount } from './mount_base';
import { sayCrontabsIn } from './model/schedule';
import { pageLanguage } from './model/trans';
import type { Schedules } from './source/schedules';
import type { Dispose } from './source/source';
import { Loaded } from './stores/loaded';

const SECONDS = 5;

/** Schedules, what they did, and what failed while nobody watched. */
export function mountSchedules(
  host: HTMLElement,
  schedules: Schedules,
  options: MountOptions & ScheduleHooks = {}
): Dispose {
  const store = new Loaded(async () => {
    const [list, projects, notices] = await Promise.all([
      schedules.list(),
      schedules.listProjects(),
      schedules.notices()
    ]);
    return { list, projects, notices };
  }, SECONDS);
  void store.load();
  void sayCrontabsIn(pageLanguage()).catch(() => undefined);
  const { pickNotebook, openReport, openBoard, startStack } = options;
  return mount(
    host,
    <SchedulesView
      store={store}
      schedules={schedules}
      pickNotebook={pickNotebook}
      openReport={openReport}
      openBoard={openBoard}
      startStack={startStack}
    />,
    options,
    () => store.dispose()
  );
}
