// Many strings in shared memory: the paths of a million files are given to each worker without copying them.

/** What a table consists of; can be posted to a thread. */
export interface StringTableData {
  readonly text: SharedArrayBuffer;
  /** Uint32: string i is text[ends[i - 1] .. ends[i]]. */
  readonly ends: SharedArrayBuffer;
}

export class StringTable {
  readonly data: StringTableData;
  readonly #text: Uint8Array;
  readonly #ends: Uint32Array;

  constructor(data: StringTableData) {
    this.data = data;
    this.#text = new Uint8Array(data.text);
    this.#ends = new Uint32Array(data.ends);
  }

  static from(strings: readonly string[]): StringTable {
    const sizes = strings.map((text) => Buffer.byteLength(text));
    const text = new SharedArrayBuffer(sizes.reduce((sum, size) => sum + size, 0));
    const ends = new SharedArrayBuffer(strings.length * 4);
    const bytes = new Uint8Array(text);
    const offsets = new Uint32Array(ends);
    let end = 0;
    for (let i = 0; i < strings.length; i++) {
      Buffer.from(bytes.buffer, end, sizes[i]!).write(strings[i]!);
      end += sizes[i]!;
      offsets[i] = end;
    }
    return new StringTable({ text, ends });
  }

  get length(): number {
    return this.#ends.length;
  }

  at(index: number): string {
    const start = index === 0 ? 0 : this.#ends[index - 1]!;
    return Buffer.from(this.#text.buffer, start, this.#ends[index]! - start).toString();
  }
}
