import { signal } from '@preact/signals';

import { ProblemError, fieldsOf } from '../model/problem';

/** What we use of an anywidget model. */
export interface WidgetModel {
  get(name: string): unknown;
  set?(name: string, value: unknown): void;
  save_changes?(): void;
  send(content: unknown): void;
  on(name: string, callback: (content?: unknown) => void): void;
  off(name: string, callback: (content?: unknown) => void): void;
}

interface Reply {
  reply_to: number;
  ok: boolean;
  result?: unknown;
  problem?: { detail?: string; code?: string; status?: number | null; errors?: unknown };
}

interface Push {
  push: string;
  data: unknown;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(problem: ProblemError): void;
  timer: ReturnType<typeof setTimeout>;
}

const HELLO_ID = 0;
const HELLO_TIMEOUT_MS = 2_000;
// Generous: the kernel answers only between cells.
const CALL_TIMEOUT_MS = 120_000;

function isReply(content: unknown): content is Reply {
  return typeof content === 'object' && content !== null && 'reply_to' in content;
}

function isPush(content: unknown): content is Push {
  return typeof content === 'object' && content !== null && 'push' in content;
}

/**
 * Numbered requests and replies over a widget's custom messages.
 *
 * A saved notebook shows the view without a kernel; nobody answers the greeting, and `live`
 * becomes false. A late answer (the kernel was busy in a cell) makes it true again.
 */
export class Comm {
  readonly live = signal(true);
  /** Settles once it is known whether somebody answers. */
  readonly greeted: Promise<void>;
  private nextId = 1;
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Set<(push: string, data: unknown) => void>();
  private settleGreeting: () => void = () => undefined;
  private readonly greeting: ReturnType<typeof setTimeout>;

  constructor(private readonly model: WidgetModel) {
    model.on('msg:custom', this.receive);
    this.greeted = new Promise(resolve => {
      this.settleGreeting = resolve;
    });
    this.greeting = setTimeout(() => {
      this.live.value = false;
      this.settleGreeting();
    }, HELLO_TIMEOUT_MS);
    this.post({ id: HELLO_ID, method: 'hello', params: {} });
  }

  /** Call a method of the Python side. */
  call(method: string, params: { readonly [key: string]: unknown }): Promise<unknown> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(
          new ProblemError('The kernel did not answer. Is a cell still running?', 'timeout')
        );
      }, CALL_TIMEOUT_MS);
      this.waiting.set(id, { resolve, reject, timer });
      this.post({ id, method, params });
    });
  }

  /** Send a message that needs no reply. */
  tell(method: string, params: { readonly [key: string]: unknown }): void {
    this.post({ id: this.nextId++, method, params });
  }

  /** Hear what the Python side pushes; returns the way to stop. */
  listen(listener: (push: string, data: unknown) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  dispose(): void {
    clearTimeout(this.greeting);
    this.model.off('msg:custom', this.receive);
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new ProblemError('The view was closed.', 'closed'));
    }
    this.waiting.clear();
    this.listeners.clear();
  }

  private post(message: unknown): void {
    try {
      this.model.send(message);
    } catch {
      // A model without a comm throws in some hosts and drops the message in others.
      this.live.value = false;
      this.settleGreeting();
    }
  }

  private readonly receive = (content?: unknown): void => {
    clearTimeout(this.greeting);
    this.live.value = true;
    this.settleGreeting();
    if (isReply(content)) {
      this.settle(content);
    } else if (isPush(content)) {
      for (const listener of [...this.listeners]) {
        listener(content.push, content.data);
      }
    }
  };

  private settle(reply: Reply): void {
    const waiting = this.waiting.get(reply.reply_to);
    if (!waiting) {
      return;
    }
    this.waiting.delete(reply.reply_to);
    clearTimeout(waiting.timer);
    if (reply.ok) {
      waiting.resolve(reply.result ?? null);
    } else {
      const { detail, code, status, errors } = reply.problem ?? {};
      waiting.reject(
        new ProblemError(
          detail ?? 'The kernel refused.',
          code ?? 'kernel',
          status ?? 0,
          null,
          new Map(fieldsOf(errors))
        )
      );
    }
  }
}
