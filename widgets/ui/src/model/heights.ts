/**
 * Heights of a list's rows, of which most were never measured.
 *
 * Every question takes time in proportion to the logarithm of the number of rows: a binary indexed
 * tree holds how much each measured row differs from the estimate.
 */
export class Heights {
  private tree = new Float64Array(1);
  private deltas = new Float64Array(0);
  private first: number | string | null = null;
  private last: number | string | null = null;
  private count = 0;

  /** @param estimate Height of a row that was not measured yet, in pixels. */
  constructor(private readonly estimate: number) {}

  /** Follow the list: rows that are added keep what is known, another list begins anew. */
  sync(count: number, keyAt: (index: number) => number | string): void {
    const isSame =
      count >= this.count &&
      (this.count === 0 || (keyAt(0) === this.first && keyAt(this.count - 1) === this.last));
    const old = isSame ? this.deltas : new Float64Array(0);
    if (!isSame || count > this.deltas.length) {
      // Twice as many, so that growing by single rows costs little.
      this.deltas = new Float64Array(Math.max(64, isSame ? count * 2 : count));
      this.deltas.set(old);
      this.build();
    }
    this.count = count;
    this.first = count > 0 ? keyAt(0) : null;
    this.last = count > 0 ? keyAt(count - 1) : null;
  }

  /** Keep a measured height; false when it was known. */
  set(index: number, height: number): boolean {
    const change = height - this.estimate - (this.deltas[index] ?? 0);
    if (index >= this.count || Math.abs(change) < 0.5) {
      return false;
    }
    this.deltas[index] = height - this.estimate;
    for (let at = index + 1; at < this.tree.length; at += at & -at) {
      this.tree[at] = (this.tree[at] ?? 0) + change;
    }
    return true;
  }

  /** Top of a row; of the one after the last, the full height. */
  top(index: number): number {
    let sum = index * this.estimate;
    for (let at = index; at > 0; at -= at & -at) {
      sum += this.tree[at] ?? 0;
    }
    return sum;
  }

  /** The last row whose top is at or above an offset. */
  rowAt(offset: number): number {
    let low = 0;
    let high = Math.max(0, this.count - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.top(middle) <= offset) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  private build(): void {
    const size = this.deltas.length + 1;
    this.tree = new Float64Array(size);
    for (let at = 1; at < size; at += 1) {
      this.tree[at] = (this.tree[at] ?? 0) + (this.deltas[at - 1] ?? 0);
      const parent = at + (at & -at);
      if (parent < size) {
        this.tree[parent] = (this.tree[parent] ?? 0) + (this.tree[at] ?? 0);
      }
    }
  }
}
