// Antialiased separable resampling: PIL's algorithm (Pillow's Resample.c), in its 8-bit fixed-point form, bit for bit.
// A filter is stretched by the scale when the image gets smaller, rows are filtered first, then columns, and the result between the
// two passes is rounded to 8 bits. Crop, resize and flip are one step, and only the rows and columns that are needed are touched.
import { FILTER_BITS, kernels, region, scratch } from "./kernels.js";
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
        const weight = (sum === 0 ? exact[k]! : exact[k]! / sum) * (1 << FILTER_BITS);
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

  /** Bytes that `store` needs for n outputs. */
  bytes(n: number): number {
    return region(4 * n * (this.stride + 2));
  }

  /** Copies first (less `origin`), count and weights of n outputs to an address. */
  store(ints: Int32Array, address: number, n: number, origin: number): void {
    const to = address >> 2;
    const { first, count, weights } = this;
    for (let i = 0; i < n; i++) {
      ints[to + i] = first[i]! - origin;
      ints[to + n + i] = count[i]!;
    }
    const total = n * this.stride;
    for (let i = 0; i < total; i++) ints[to + 2 * n + i] = weights[i]!;
  }

  /** Where `store` put first, count and weights, and the bytes from one output's weights to the next's. */
  addresses(address: number, n: number): [first: number, count: number, weights: number, tapBytes: number] {
    return [address, address + 4 * n, address + 8 * n, 4 * this.stride];
  }
}

const columns = new Axis();
const rows = new Axis();
/** Source rows are taken over into the kernels' memory in bands of about this many bytes. */
const BAND = 1 << 20;

/**
 * Crops, resizes and flips `image` into `out` at `at`, as planes [channels][height][width] of the given size.
 * What the window shows of the outside of the resized image is black.
 */
export function resample(image: Pixels, window: Window, height: number, width: number, out: Uint8Array, at: number): void {
  const { box, bounds, interpolation, flip } = window;
  const { channels, data } = image;
  const x0 = Math.max(window.x, 0);
  const y0 = Math.max(window.y, 0);
  const innerWidth = Math.min(window.x + width, window.width) - x0;
  const innerHeight = Math.min(window.y + height, window.height) - y0;
  const whole = innerWidth === width && innerHeight === height;
  if (!whole) out.fill(0, at, at + channels * height * width);
  if (innerWidth <= 0 || innerHeight <= 0) return;
  columns.prepare(interpolation, box.left, box.right, bounds.left, bounds.right, window.width, x0, innerWidth, flip);
  rows.prepare(interpolation, box.top, box.bottom, bounds.top, bounds.bottom, window.height, y0, innerHeight, false);

  // The kernels' memory: result, filters, rows after the first pass, a band of source rows.
  const { low, high } = rows;
  const pitch = image.width * channels;
  const bandRows = Math.max(1, Math.min(high - low, Math.floor(BAND / pitch)));
  const innerPlane = innerHeight * innerWidth;
  const betweenPlane = (high - low) * innerWidth;
  const columnTables = region(channels * innerPlane);
  const rowTables = columnTables + columns.bytes(innerWidth);
  const between = rowTables + rows.bytes(innerHeight);
  const band = between + region(channels * betweenPlane);
  const { bytes, ints } = scratch(band + region(bandRows * pitch));
  columns.store(ints, columnTables, innerWidth, 0);
  rows.store(ints, rowTables, innerHeight, low);

  const filterRows = channels === 3 ? kernels.filterRgb : kernels.filterGrey;
  const [cf, cc, cw, cb] = columns.addresses(columnTables, innerWidth);
  for (let y = low; y < high; y += bandRows) {
    const n = Math.min(bandRows, high - y);
    bytes.set(data.subarray(y * pitch, (y + n) * pitch), band);
    const to = between + (y - low) * innerWidth;
    filterRows(band, pitch, n, cf, cc, cw, cb, innerWidth, to, innerWidth, betweenPlane);
  }
  const [rf, rc, rw, rb] = rows.addresses(rowTables, innerHeight);
  for (let c = 0; c < channels; c++) {
    kernels.filterColumns(between + c * betweenPlane, innerWidth, rf, rc, rw, rb, innerHeight, innerWidth, c * innerPlane);
  }
  if (whole) {
    out.set(bytes.subarray(0, channels * innerPlane), at);
    return;
  }
  const left = flip ? window.x + width - x0 - innerWidth : x0 - window.x;
  const top = y0 - window.y;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < innerHeight; y++) {
      const from = c * innerPlane + y * innerWidth;
      out.set(bytes.subarray(from, from + innerWidth), at + (c * height + top + y) * width + left);
    }
  }
}
