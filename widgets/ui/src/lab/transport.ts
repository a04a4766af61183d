import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { ProblemError, problemFrom } from '../model/problem';
import type { Transport } from '../source/transport';

const PREFIX = 'rootbound';

/** Rootbound's routes in this Jupyter server, with Jupyter's own sign-in and XSRF protection. */
export class LabTransport implements Transport {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  async request(
    method: string,
    path: string,
    body?: unknown,
    more: RequestInit = {}
  ): Promise<unknown> {
    const init: RequestInit = { ...more, method, headers: { Accept: 'application/json' } };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { Accept: 'application/json', 'Content-Type': 'application/json' };
    }
    const url = URLExt.join(this.settings.baseUrl, PREFIX) + `/${path}`;
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this.settings);
    } catch {
      throw new ProblemError('The Jupyter server does not answer.', 'offline');
    }
    const text = await response.text();
    const data = decode(text);
    if (!response.ok) {
      throw problemFrom(response.status, data, response.headers.get('Retry-After'));
    }
    return data;
  }

  httpUrl(path: string): string {
    const url = new URL(URLExt.join(this.settings.baseUrl, PREFIX) + `/${path}`);
    if (this.settings.appendToken && this.settings.token) {
      url.searchParams.set('token', this.settings.token);
    }
    return url.toString();
  }

  socketUrl(path: string): string {
    const url = new URL(URLExt.join(this.settings.wsUrl, PREFIX) + `/${path}`);
    if (this.settings.appendToken && this.settings.token) {
      url.searchParams.set('token', this.settings.token);
    }
    return url.toString();
  }
}

function decode(text: string): unknown {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    // An HTML error page of a proxy; its status says enough.
    return null;
  }
}
