/** A command's output, line by line, as it arrives. */
import { PLAIN, type Style, styleAfter } from './ansi';
import { plainOutput } from './format';

/**
 * Output that only grows.
 *
 * Adding costs what is added, however much there is, and any line can be drawn by itself: the
 * colour that it begins with is known.
 */
export class Output {
  /** Lines as they came, escapes and all; the last one may still grow. */
  readonly lines: string[] = [];
  /** Characters in all. */
  size = 0;
  // Only of the lines that do not begin plainly.
  private readonly styles = new Map<number, Style>();
  private next: Style = PLAIN;

  static of(text: string): Output {
    const output = new Output();
    output.append(text);
    return output;
  }

  append(text: string): void {
    if (text === '') {
      return;
    }
    this.size += text.length;
    const last = Math.max(0, this.lines.length - 1);
    const fresh = ((this.lines.pop() ?? '') + text).split('\n');
    for (const line of fresh) {
      this.lines.push(line);
    }
    for (let index = last; index < this.lines.length; index += 1) {
      if (this.next !== PLAIN) {
        this.styles.set(index, this.next);
      }
      // The line that still grows is read again with what is added to it.
      if (index < this.lines.length - 1) {
        this.next = styleAfter(this.lines[index] ?? '', this.next);
      }
    }
  }

  /** How many lines a reader sees: an end of line begins none. */
  get count(): number {
    const { lines } = this;
    return lines[lines.length - 1] === '' ? lines.length - 1 : lines.length;
  }

  /** The colour with which a line begins. */
  styleOf(index: number): Style {
    return this.styles.get(index) ?? PLAIN;
  }

  get text(): string {
    return this.lines.join('\n');
  }

  get plain(): string {
    return plainOutput(this.text);
  }
}
