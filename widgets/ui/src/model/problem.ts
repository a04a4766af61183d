/** Refusals that tell of somebody else's change, not of a mistake. */
const TOO_LATE: ReadonlySet<string> = new Set([
  'version-conflict',
  'attempt-live',
  'attempt-moved',
  'attempt-superseded',
  'illegal-transition',
  'task-done',
  'merge-in-progress'
]);

/** A failed request, read from an RFC 9457 answer or made from what was there instead. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';

  /**
   * @param detail One sentence that says what happened and what to do.
   * @param code The problem's code from the server, or one of ours: `network`, `offline`, `absent`,
   *   `snapshot`, `timeout`, `closed`, `http`.
   * @param status HTTP status; 0 when there was no answer.
   * @param retryAfter Seconds to wait before asking again, when the answer said so.
   * @param fields What is wrong with which field, by its name: `title`, `config.test_cmd`,
   *   `tasks[0].title`.
   */
  constructor(
    readonly detail: string,
    readonly code: string,
    readonly status = 0,
    readonly retryAfter: number | null = null,
    readonly fields: ReadonlyMap<string, string> = new Map()
  ) {
    super(detail);
  }

  /** Whether the services do not answer now but may soon, so that asking again is right. */
  get isPassing(): boolean {
    return this.status === 503 || this.code === 'offline';
  }

  /** Whether somebody else was quicker. */
  get isTooLate(): boolean {
    return TOO_LATE.has(this.code);
  }

  /** Whether nobody starts the services until told to. */
  get needsStart(): boolean {
    return this.code === 'stack-stopped' || this.code === 'stack-failed';
  }
}

function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null;
}

/** The first sentence about each field of a problem's nested errors. */
export function fieldsOf(errors: unknown, path = ''): [string, string][] {
  if (Array.isArray(errors)) {
    const text = errors.find(part => typeof part === 'string');
    return typeof text === 'string'
      ? [[path, text]]
      : errors.flatMap((part, index) => fieldsOf(part, `${path}[${index}]`));
  }
  if (isRecord(errors)) {
    return Object.entries(errors).flatMap(([name, part]) =>
      fieldsOf(part, path && name !== 'non_field_errors' ? `${path}.${name}` : path || name)
    );
  }
  return typeof errors === 'string' ? [[path, errors]] : [];
}

/**
 * Make a problem from an HTTP answer.
 *
 * @param status HTTP status.
 * @param body The decoded body; anything.
 * @param retryAfter The Retry-After header, if any.
 */
export function problemFrom(
  status: number,
  body: unknown,
  retryAfter: string | null = null
): ProblemError {
  const seconds = retryAfter === null ? NaN : Number(retryAfter);
  const wait = Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
  if (isRecord(body) && typeof body['code'] === 'string') {
    const text = [body['detail'], body['title']].find(part => typeof part === 'string' && part);
    return new ProblemError(
      typeof text === 'string' ? text : `The server answered ${status}.`,
      body['code'],
      status,
      wait,
      new Map(fieldsOf(body['errors']))
    );
  }
  if (status === 404) {
    // Rootbound's own 404 is a problem document; this one is Jupyter's, so the extension is off.
    return new ProblemError(
      'Rootbound’s server extension is not enabled in this Jupyter server.',
      'absent',
      404
    );
  }
  const message = isRecord(body) && typeof body['message'] === 'string' ? body['message'] : '';
  return new ProblemError(
    message || `The server answered ${status}.`,
    'http',
    status,
    wait
  );
}

/** Any thrown value as a problem. */
export function asProblem(reason: unknown): ProblemError {
  if (reason instanceof ProblemError) {
    return reason;
  }
  const text = reason instanceof Error ? reason.message : String(reason);
  return new ProblemError(text || 'Something went wrong.', 'network');
}
