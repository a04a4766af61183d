export interface Message {
  id: string;
  plural: string | null;
  context: string | null;
  places: ReadonlySet<string>;
}

export function committed(): string;
export function scan(): { messages: readonly Message[]; loose: readonly string[] };
export function template(messages: readonly Message[]): string;
