// Which pixels an output of a resampling filter reads along one axis, and how much each counts. The rules are Pillow's (Resample.c).
import type { KernelMemory } from "./kernels.js";

export type Interpolation = "bilinear" | "bicubic" | "lanczos";

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

const filters: Record<Interpolation, { support: number; at: (x: number) => number }> = {
  bilinear: { support: 1, at: (x) => (x < 0 ? (x > -1 ? 1 + x : 0) : x < 1 ? 1 - x : 0) },
  bicubic: {
    support: 2,
    at: (x) => {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
    },
  },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/**
 * For each `group` of outputs, for each `unit` of taps, for each output of the group: the upper parts of `unit` weights, then the lower ones,
 * each a word. The outputs are filled up to a multiple of `multiple`.
 */
export interface TapLayout {
  readonly group: number;
  readonly unit: number;
  readonly multiple: number;
}

/** Bits of weights: 32 - 8 of the pixel - 2 of headroom for the filters' overshoot, as in Pillow. */
export const FILTER_BITS = 22;
/** Of these, so many are in the lower part, so that both parts are 16-bit words. */
export const LOWER_BITS = 8;
/** Weights below this are nothing in fixed point, whatever the sum of weights they are divided by. */
const NOTHING = 2 ** -26;

/** Filter taps along one axis: output i reads `count[i]` inputs from `first[i]`. One object is used again and again. */
export class Axis {
  /** Taps of the output that has most. */
  taps = 0;
  /** The range of inputs that are read. */
  low = 0;
  high = 0;
  #n = 0;
  #stride = 0;
  #first = new Int32Array(0);
  #count = new Int32Array(0);
  #exact = new Float64Array(0);

  /**
   * Outputs `from .. from + n - 1` of an axis on which [start, end) is resized to `size`; backwards when `flip`. Filters read nothing
   * outside of [boundLow, boundHigh).
   */
  prepare(
    interpolation: Interpolation,
    start: number,
    end: number,
    boundLow: number,
    boundHigh: number,
    size: number,
    from: number,
    n: number,
    flip: boolean,
  ): void {
    const filter = filters[interpolation];
    const scale = (end - start) / size;
    const filterScale = Math.max(scale, 1);
    const support = filter.support * filterScale;
    const inverse = 1 / filterScale;
    const stride = Math.ceil(support) * 2 + 1;
    this.#n = n;
    this.#stride = stride;
    if (this.#first.length < n) {
      this.#first = new Int32Array(n);
      this.#count = new Int32Array(n);
    }
    if (this.#exact.length < n * stride) this.#exact = new Float64Array(n * stride);
    const [first, count, exact] = [this.#first, this.#count, this.#exact];
    let [low, high, taps] = [Number.MAX_SAFE_INTEGER, 0, 1];
    for (let i = 0; i < n; i++) {
      const center = start + (from + i + 0.5) * scale;
      const min = Math.max(Math.trunc(center - support + 0.5), boundLow);
      const max = Math.min(Math.trunc(center + support + 0.5), boundHigh);
      const slot = flip ? n - 1 - i : i;
      const to = slot * stride;
      let sum = 0;
      let kept = 0;
      let skipped = 0;
      for (let x = min; x < max; x++) {
        const weight = filter.at((x - center + 0.5) * inverse);
        sum += weight;
        // What counts for nothing at the ends is not read: an identity resize then reads one tap.
        if (kept === 0 && Math.abs(weight) < NOTHING) skipped++;
        else exact[to + kept++] = weight;
      }
      while (kept > 1 && Math.abs(exact[to + kept - 1]!) < NOTHING) kept--;
      if (kept === 0) exact[to + kept++] = 1;
      if (sum !== 0) for (let k = 0; k < kept; k++) exact[to + k] = exact[to + k]! / sum;
      const at = Math.min(min + skipped, boundHigh - 1);
      first[slot] = at;
      count[slot] = kept;
      if (at < low) low = at;
      if (at + kept > high) high = at + kept;
      if (kept > taps) taps = kept;
    }
    this.low = low;
    this.high = high;
    this.taps = taps;
  }

  /** Bytes that tables need. */
  bytes({ multiple, unit }: TapLayout): number {
    const n = Math.ceil(this.#n / multiple) * multiple;
    return 4 * n + 4 * n * Math.ceil(this.taps / unit) * unit;
  }

  /**
   * Writes tables to an address: for each output 4 bytes, (first - origin) * scale; then the weights. Where outputs and taps do not fill
   * the layout, there are weights of zero. Returns the address of the weights.
   */
  store({ ints, words }: KernelMemory, address: number, layout: TapLayout, origin: number, scale: number): number {
    const { group, unit, multiple } = layout;
    const [first, count, exact, stride] = [this.#first, this.#count, this.#exact, this.#stride];
    const n = Math.ceil(this.#n / multiple) * multiple;
    const units = Math.ceil(this.taps / unit);
    const one = 1 << FILTER_BITS;
    const table = (address >> 1) + 2 * n;
    words.fill(0, table, table + 2 * n * units * unit);
    for (let i = 0; i < n; i++) {
      const output = Math.min(i, this.#n - 1);
      ints[(address >> 2) + i] = (first[output]! - origin) * scale;
      if (i >= this.#n) continue;
      const taps = count[i]!;
      let to = table + 2 * (Math.floor(i / group) * units * group + (i % group)) * unit;
      for (let k = 0; k < taps; to += 2 * group * unit) {
        const end = Math.min(k + unit, taps);
        for (let at = to; k < end; k++, at++) {
          const weight = exact[i * stride + k]! * one;
          const fixed = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
          words[at] = fixed >> LOWER_BITS;
          words[at + unit] = fixed & ((1 << LOWER_BITS) - 1);
        }
      }
    }
    return 2 * table;
  }
}
