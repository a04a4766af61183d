import type { Dispose, Link } from './source';

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;

/** Close codes after which connecting again cannot help: all sent, not signed in, not found. */
const FINAL_CODES: ReadonlySet<number> = new Set([1000, 4403, 4404]);

export interface SocketHandlers {
  /** Address for the next connection; asked each time, so that it can hold the last seq. */
  url(): string;
  message(frame: unknown, send: (frame: unknown) => void): void;
  link(link: Link): void;
  /** The server ended the conversation for good. */
  closed(code: number): void;
}

/**
 * Keep a WebSocket open, with growing pauses between attempts to connect.
 *
 * Frames are JSON. A connection that delivered at least one frame resets the pause.
 */
export function keepSocket(handlers: SocketHandlers): Dispose {
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let delay = FIRST_DELAY_MS;
  let stopped = false;

  const connect = (): void => {
    timer = undefined;
    handlers.link('connecting');
    const mine = new WebSocket(handlers.url());
    socket = mine;
    mine.onmessage = (message: MessageEvent<unknown>) => {
      if (stopped || socket !== mine || typeof message.data !== 'string') {
        return;
      }
      delay = FIRST_DELAY_MS;
      handlers.link('live');
      handlers.message(JSON.parse(message.data), frame => {
        if (mine.readyState === WebSocket.OPEN) {
          mine.send(JSON.stringify(frame));
        }
      });
    };
    mine.onclose = (event: CloseEvent) => {
      if (stopped || socket !== mine) {
        return;
      }
      socket = null;
      if (FINAL_CODES.has(event.code)) {
        stopped = true;
        handlers.closed(event.code);
        return;
      }
      handlers.link('lost');
      // Spread the reconnections of many views over time after a server restart.
      timer = setTimeout(connect, delay * (0.75 + Math.random() / 2));
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    };
  };

  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket?.close(1000);
    socket = null;
  };
}
