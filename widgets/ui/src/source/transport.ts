/** The narrow door to a server: one request, or the address of one WebSocket. */
export interface Transport {
  /**
   * Send a request and decode the JSON answer.
   *
   * @param method HTTP method.
   * @param path Path below the Rootbound prefix, such as `api/projects/?limit=100`.
   * @param body JSON body, if any.
   * @throws ProblemError when there is no answer or the answer is an error.
   */
  request(method: string, path: string, body?: unknown): Promise<unknown>;

  /** The full address of a path below the Rootbound prefix, for links. */
  httpUrl(path: string): string;

  /** The full WebSocket address of a path below the Rootbound prefix. */
  socketUrl(path: string): string;
}

/** Fields as a query with its question mark; empty ones are left out. */
export function query(fields: {
  readonly [key: string]: string | number | null | undefined;
}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== '') {
      params.set(key, String(value));
    }
  }
  const text = params.toString();
  return text ? `?${text}` : '';
}
