// Antialiased separable resampling: PIL's algorithm (Pillow's Resample.c), in its 8-bit fixed-point form, bit for bit.
// A filter is stretched by the scale when the image gets smaller, rows are filtered first, then columns, and the result between the
// two passes is rounded to 8 bits. Crop, resize and flip are one step, and only the rows and columns that are needed are touched.
import type { Pixels } from "./pixels.js";

export type Interpolation = "bilinear" | "bicubic" | "lanczos";

/** What to take out of an image and where it goes. All of it in one resampling step. */
export interface Window {
  /** The box that is resized, in source pixels: it may be fractional. */
  readonly box: { readonly left: number; readonly top: number; readonly right: number; readonly bottom: number };
  /** Filters never read outside these integer bounds: the crop's edges (torchvision: crop, then resize) or the image's (PIL's `box`). */
  readonly bounds: { readonly left: number; readonly top: number; readonly right: number; readonly bottom: number };
  /** The size the box is resized to. */
  readonly width: number;
  readonly height: number;
  /** The part of the resized image that is kept: its left top corner; it may reach outside, which gives black. */
  readonly x: number;
  readonly y: number;
  readonly flip: boolean;
  readonly interpolation: Interpolation;
}

const BITS = 22; // 32 - 8 bits of pixel - 2 bits of headroom for the filters' overshoot
const HALF = 1 << (BITS - 1);

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

/** Filter taps along one axis: output i reads `count[i]` inputs from `first[i]`, weights at `i * stride`. */
class Axis {
  first = new Int32Array(0);
  count = new Int32Array(0);
  weights = new Int32Array(0);
  stride = 0;
  /** The range of inputs that are read at all. */
  low = 0;
  high = 0;
  #exact = new Float64Array(0);

  /** Outputs `from .. from + n - 1` of an axis on which [start, end) is resized to `size`; written backwards when `flip`. */
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
    this.stride = Math.ceil(support) * 2 + 1;
    if (this.first.length < n) {
      this.first = new Int32Array(n);
      this.count = new Int32Array(n);
    }
    if (this.weights.length < n * this.stride) this.weights = new Int32Array(n * this.stride);
    if (this.#exact.length < this.stride) this.#exact = new Float64Array(this.stride);
    const { first, count, weights } = this;
    const exact = this.#exact;
    let low = boundHigh;
    let high = boundLow;
    for (let i = 0; i < n; i++) {
      const center = start + (from + i + 0.5) * scale;
      let min = Math.max(Math.trunc(center - support + 0.5), boundLow);
      const max = Math.min(Math.trunc(center + support + 0.5), boundHigh);
      let taps = max - min;
      let sum = 0;
      for (let k = 0; k < taps; k++) {
        const weight = filter.at((k + min - center + 0.5) * inverse);
        exact[k] = weight;
        sum += weight;
      }
      const to = (flip ? n - 1 - i : i) * this.stride;
      // Taps that round to nothing at the ends are dropped: an identity resize then reads one tap.
      let skipped = 0;
      let kept = 0;
      for (let k = 0; k < taps; k++) {
        const weight = (sum === 0 ? exact[k]! : exact[k]! / sum) * (1 << BITS);
        const fixed = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
        if (fixed === 0 && kept === 0) {
          skipped++;
          continue;
        }
        weights[to + kept++] = fixed;
      }
      while (kept > 1 && weights[to + kept - 1] === 0) kept--;
      min += skipped;
      taps = kept;
      const slot = flip ? n - 1 - i : i;
      first[slot] = min;
      count[slot] = taps;
      if (min < low) low = min;
      if (min + taps > high) high = min + taps;
    }
    this.low = low;
    this.high = high;
  }
}

const columns = new Axis();
const rows = new Axis();
let between = new Uint8Array(0);
let sums = new Int32Array(0);

/** Rounds a fixed-point sum to 0..255. */
function round8(sum: number): number {
  return Math.max(0, Math.min(255, sum >> BITS));
}

/** Filters source rows `top .. bottom` to `width` columns, one plane per channel, into `between`. */
function filterRows(image: Pixels, top: number, bottom: number, width: number): void {
  const { first, count, weights, stride } = columns;
  const { data, width: pitch, channels } = image;
  const out = between;
  const plane = (bottom - top) * width;
  for (let y = top; y < bottom; y++) {
    let to = (y - top) * width;
    const row = y * pitch;
    if (channels === 1) {
      for (let x = 0; x < width; x++) {
        let from = row + first[x]!;
        let w = x * stride;
        const end = w + count[x]!;
        let sum = HALF;
        for (; w < end; w++) sum = (sum + Math.imul(data[from++]!, weights[w]!)) | 0;
        out[to++] = round8(sum);
      }
    } else {
      for (let x = 0; x < width; x++) {
        let from = (row + first[x]!) * 3;
        let w = x * stride;
        const end = w + count[x]!;
        let red = HALF;
        let green = HALF;
        let blue = HALF;
        for (; w < end; w++) {
          const weight = weights[w]!;
          red = (red + Math.imul(data[from]!, weight)) | 0;
          green = (green + Math.imul(data[from + 1]!, weight)) | 0;
          blue = (blue + Math.imul(data[from + 2]!, weight)) | 0;
          from += 3;
        }
        out[to] = round8(red);
        out[to + plane] = round8(green);
        out[to + 2 * plane] = round8(blue);
        to++;
      }
    }
  }
}

/** One output row from `taps` rows of `between`; `sums` carries what does not fit in four taps at a time. */
function filterColumn(from: number, taps: number, w: number, width: number, out: Uint8Array, at: number): void {
  const source = between;
  const { weights } = rows;
  const carry = sums;
  let k = 0;
  for (; taps - k > 4; k += 4) {
    const w0 = weights[w + k]!;
    const w1 = weights[w + k + 1]!;
    const w2 = weights[w + k + 2]!;
    const w3 = weights[w + k + 3]!;
    const a = from + k * width;
    const b = a + width;
    const c = b + width;
    const d = c + width;
    for (let x = 0; x < width; x++) {
      const before = k === 0 ? HALF : carry[x]!;
      const upper = (Math.imul(source[a + x]!, w0) + Math.imul(source[b + x]!, w1)) | 0;
      const lower = (Math.imul(source[c + x]!, w2) + Math.imul(source[d + x]!, w3)) | 0;
      carry[x] = (before + ((upper + lower) | 0)) | 0;
    }
  }
  const left = taps - k;
  const w0 = weights[w + k]!;
  const w1 = left > 1 ? weights[w + k + 1]! : 0;
  const w2 = left > 2 ? weights[w + k + 2]! : 0;
  const w3 = left > 3 ? weights[w + k + 3]! : 0;
  const a = from + k * width;
  const b = left > 1 ? a + width : a;
  const c = left > 2 ? b + width : a;
  const d = left > 3 ? c + width : a;
  if (k === 0) carry.fill(HALF, 0, width);
  if (left <= 2) {
    for (let x = 0; x < width; x++) {
      const sum = (Math.imul(source[a + x]!, w0) + Math.imul(source[b + x]!, w1)) | 0;
      out[at + x] = round8((carry[x]! + sum) | 0);
    }
  } else {
    for (let x = 0; x < width; x++) {
      const upper = (Math.imul(source[a + x]!, w0) + Math.imul(source[b + x]!, w1)) | 0;
      const lower = (Math.imul(source[c + x]!, w2) + Math.imul(source[d + x]!, w3)) | 0;
      out[at + x] = round8((carry[x]! + ((upper + lower) | 0)) | 0);
    }
  }
}

/**
 * Crops, resizes and flips `image` into `out` at `at`, as planes [channels][height][width] of the given size.
 * What the window shows of the outside of the resized image is black.
 */
export function resample(image: Pixels, window: Window, height: number, width: number, out: Uint8Array, at: number): void {
  const { box, bounds, interpolation, flip } = window;
  const x0 = Math.max(window.x, 0);
  const x1 = Math.min(window.x + width, window.width);
  const y0 = Math.max(window.y, 0);
  const y1 = Math.min(window.y + height, window.height);
  const innerWidth = x1 - x0;
  const innerHeight = y1 - y0;
  const { channels } = image;
  if (innerWidth < width || innerHeight < height) out.fill(0, at, at + channels * height * width);
  if (innerWidth <= 0 || innerHeight <= 0) return;
  columns.prepare(interpolation, box.left, box.right, bounds.left, bounds.right, window.width, x0, innerWidth, flip);
  rows.prepare(interpolation, box.top, box.bottom, bounds.top, bounds.bottom, window.height, y0, innerHeight, false);
  const { low, high, first, count, stride } = rows;
  const plane = (high - low) * innerWidth;
  if (between.length < channels * plane) between = new Uint8Array(channels * plane);
  if (sums.length < innerWidth) sums = new Int32Array(innerWidth);
  filterRows(image, low, high, innerWidth);
  const left = flip ? window.x + width - x1 : x0 - window.x;
  const top = y0 - window.y;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < innerHeight; y++) {
      const from = c * plane + (first[y]! - low) * innerWidth;
      filterColumn(from, count[y]!, y * stride, innerWidth, out, at + (c * height + top + y) * width + left);
    }
  }
}
