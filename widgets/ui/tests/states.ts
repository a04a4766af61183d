/**
 * Every screen four times in one page: empty, loading, in error and full.
 *
 * The real views over their real sources; what the server answers, the test that opens this page
 * says. `show(name)` fills `#empty`, `#loading`, `#error` and `#full`.
 */
import '../style/index.css';
import { signal } from '@preact/signals';

import type { CostChoice } from '../src/components/cost';
import { problemFrom } from '../src/model/problem';
import { mountAttemptStream, mountAuditTable, mountStackStatus, mountTaskBoard } from '../src/mount';
import { mountCost } from '../src/mount_cost';
import { mountGuide, mountRoots } from '../src/mount_machine';
import { mountReview } from '../src/mount_review';
import { mountSchedules } from '../src/mount_schedules';
import { HttpSource } from '../src/source/http';
import { HttpMachine } from '../src/source/machine';
import { HttpSchedules } from '../src/source/schedules';
import type { Dispose } from '../src/source/source';
import type { Transport } from '../src/source/transport';
import { HttpWork } from '../src/source/work';

const STATES = ['empty', 'loading', 'error', 'full'];

class StateTransport implements Transport {
  constructor(private readonly state: string) {}

  async request(method: string, path: string): Promise<unknown> {
    const response = await fetch(this.httpUrl(path), { method });
    const body: unknown = await response.json();
    if (!response.ok) {
      throw problemFrom(response.status, body);
    }
    return body;
  }

  httpUrl(path: string): string {
    return `${location.origin}/${this.state}/${path}`;
  }

  socketUrl(path: string): string {
    return this.httpUrl(path).replace('http', 'ws');
  }
}

function mountScreen(screen: string, host: HTMLElement, transport: Transport): Dispose {
  const source = new HttpSource(transport);
  const machine = new HttpMachine(transport);
  const work = new HttpWork(transport);
  const nothing = (): void => undefined;
  const pick = (): Promise<null> => Promise.resolve(null);
  const hooks = {
    work,
    machine,
    openAttempt: nothing,
    openAudit: nothing,
    openBoard: nothing,
    openRoots: nothing,
    openGuide: nothing,
    openReport: nothing,
    pickFolder: pick,
    pickNotebook: pick
  };
  switch (screen) {
    case 'board':
      return mountTaskBoard(host, source, hooks);
    case 'attempt':
      return mountAttemptStream(host, source, 'a1', hooks);
    case 'review':
      return mountReview(host, work, 'a1', hooks);
    case 'audit':
      return mountAuditTable(host, source, {});
    case 'roots':
      return mountRoots(host, source, machine, hooks);
    case 'services':
      return mountStackStatus(host, source, hooks);
    case 'cost':
      return mountCost(host, () => machine.costs({}), {
        live: source.live,
        choice: signal<CostChoice>({ group: 'project', measure: 'auto' })
      });
    case 'schedules':
      return mountSchedules(host, new HttpSchedules(transport), hooks);
    default:
      return mountGuide(host, machine, hooks);
  }
}

let disposals: Dispose[] = [];

function show(screen: string): void {
  disposals.forEach(dispose => dispose());
  disposals = STATES.map(state => {
    const host = document.getElementById(state);
    if (!host) {
      throw new Error(`no #${state}`);
    }
    return mountScreen(screen, host, new StateTransport(state));
  });
}

Object.assign(globalThis, { show });
