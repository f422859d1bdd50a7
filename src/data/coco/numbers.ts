// Lists of numbers that grow, and end up in memory that threads share.

export class Numbers {
  #values = new Float64Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) this.#grow(this.length + 1);
    this.#values[this.length++] = value;
  }

  pushAll(values: ArrayLike<number>): void {
    if (this.length + values.length > this.#values.length) this.#grow(this.length + values.length);
    this.#values.set(values, this.length);
    this.length += values.length;
  }

  at(index: number): number {
    return this.#values[index]!;
  }

  /** The values from `start` to `end`; a view that holds until the next push. */
  slice(start: number, end: number): Float64Array {
    return this.#values.subarray(start, end);
  }

  shared(): Float64Array<SharedArrayBuffer> {
    const shared = new Float64Array(new SharedArrayBuffer(this.length * 8));
    shared.set(this.#values.subarray(0, this.length));
    return shared;
  }

  #grow(least: number): void {
    const grown = new Float64Array(Math.max(least, 2 * this.#values.length));
    grown.set(this.#values.subarray(0, this.length));
    this.#values = grown;
  }
}
