// Random numbers for the data side: Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011). The key is the seed, the counter is (block, stream, sample, epoch), so every draw is a pure function of
// who asks for it. Batches therefore do not depend on the number of workers, and a resume has no generator state to restore.

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** High 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const middle = ah * bl + ((al * bl) >>> 16);
  const carry = al * bh + (middle & 0xffff);
  return (ah * bh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/** One Philox4x32-10 block: four 32-bit words for a counter of four words and a key of two, written to `out` (length 4). */
export function philox(out: Uint32Array, c0: number, c1: number, c2: number, c3: number, k0: number, k1: number): void {
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const high1 = mulHigh(M1, c2);
    const low0 = Math.imul(M0, c0) >>> 0;
    const low1 = Math.imul(M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Streams below this belong to crops (see `augment.ts`); the ones from here on are named. */
export const NAMED_STREAMS = 0x80000000;
/** The stream of the epoch's order. */
export const ORDER_STREAM = 0x7fffffff;
/** The stream that picks replacements for bad samples. */
export const REPLACEMENT_STREAM = 0x7ffffffe;
/** The stream of class-balanced subsets. */
export const SUBSET_STREAM = 0x7ffffffd;

/** A stream for a name (FNV-1a), so that two crops can share their draws. */
export function namedStream(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash | NAMED_STREAMS) >>> 0;
}

/** A reader of one stream at a time. `at` moves it; the same position always gives the same numbers. */
export class Rng {
  readonly #block = new Uint32Array(4);
  readonly #key0: number;
  readonly #key1: number;
  #next = 4;
  #counter = 0;
  #stream = 0;
  #sample = 0;
  #epoch = 0;

  /** `seed` is a non-negative integer below 2^53. */
  constructor(seed: number, epoch = 0, sample = 0, stream = 0) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`seed is ${seed}; expected an integer from 0 to 2^53 - 1.`);
    }
    this.#key0 = seed >>> 0;
    this.#key1 = Math.floor(seed / 4294967296) >>> 0;
    this.at(epoch, sample, stream);
  }

  /** Moves to the start of a stream. */
  at(epoch: number, sample: number, stream: number): this {
    this.#epoch = epoch >>> 0;
    this.#sample = sample >>> 0;
    this.#stream = stream >>> 0;
    this.#counter = 0;
    this.#next = 4;
    return this;
  }

  /** An unsigned 32-bit word. */
  word(): number {
    if (this.#next === 4) {
      philox(this.#block, this.#counter++, this.#stream, this.#sample, this.#epoch, this.#key0, this.#key1);
      this.#next = 0;
    }
    return this.#block[this.#next++]!;
  }

  /** Uniform in [low, high), with 53 random bits. */
  uniform(low = 0, high = 1): number {
    const unit = ((this.word() >>> 5) * 67108864 + (this.word() >>> 6)) / 9007199254740992;
    return low + unit * (high - low);
  }

  /** An integer from 0 to n - 1, without bias (n up to 2^32). */
  intBelow(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    let word = this.word();
    while (word >= limit) word = this.word();
    return word % n;
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.uniform() < p;
  }

  /** Normal with the given mean and standard deviation (Box-Muller). */
  normal(mean = 0, std = 1): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return mean + std * radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles an array in place (Fisher-Yates). */
  shuffle<T extends { length: number; [index: number]: number }>(values: T): T {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.intBelow(i + 1);
      const kept = values[i]!;
      values[i] = values[j]!;
      values[j] = kept;
    }
    return values;
  }
}
