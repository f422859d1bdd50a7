// Antialiased separable resampling: PIL's algorithm (Pillow's Resample.c), in its 8-bit fixed-point form, bit for bit.
// A filter is stretched by the scale when the image gets smaller, rows are filtered first, then columns, and the result between the
// two passes is rounded to 8 bits. Crop, resize and flip are one step, and only the rows and columns that are needed are touched.
import { type Canvas, copyOut, createCanvas } from "./canvas.js";
import { Axis, type Interpolation, type TapLayout } from "./filter-taps.js";
import { kernels, memoryFrom, region } from "./kernels.js";
import type { Pixels } from "./pixels.js";

export type { Interpolation };

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

/** How the kernels want the filters of columns and of rows. */
const inTwos: TapLayout = { group: 2, unit: 4, multiple: 4 };
const inOnes: TapLayout = { group: 1, unit: 2, multiple: 1 };
const columns = new Axis();
const rows = new Axis();
/** Images of up to this many bytes are taken over into the kernels' memory as a whole, others in bands of about so many bytes a crop. */
const WHOLE = 1 << 24;
const BAND = 1 << 20;

/** An image that crops are taken of. */
export interface Source {
  readonly image: Pixels;
  /** Where in the kernels' memory it lies, if it does. */
  readonly address: number | undefined;
  /** Where the memory is free for canvases. */
  readonly end: number;
}

/** Gets an image ready for crops: its bytes are copied once, to the start of the kernels' memory. */
export function placeSource(image: Pixels): Source {
  const { data } = image;
  if (data.length > WHOLE) return { image, address: undefined, end: 0 };
  const end = region(data.length);
  memoryFrom(0, end).bytes.set(data);
  return { image, address: 0, end };
}

/**
 * Crops, resizes and flips a source onto a canvas, which has as many channels. What the window shows of the outside of the resized image
 * is black.
 */
export function resampleOn(source: Source, window: Window, canvas: Canvas): void {
  const { box, bounds, interpolation, flip } = window;
  const { image } = source;
  const { channels } = image;
  const { width, height } = canvas;
  const x0 = Math.max(window.x, 0);
  const y0 = Math.max(window.y, 0);
  const innerWidth = Math.min(window.x + width, window.width) - x0;
  const innerHeight = Math.min(window.y + height, window.height) - y0;
  const whole = innerWidth === width && innerHeight === height;
  if (!whole) memoryFrom(canvas.end, 0).bytes.fill(0, canvas.address, canvas.end);
  if (innerWidth <= 0 || innerHeight <= 0) return;
  columns.prepare(interpolation, box.left, box.right, bounds.left, bounds.right, window.width, x0, innerWidth, flip);
  rows.prepare(interpolation, box.top, box.bottom, bounds.top, bounds.bottom, window.height, y0, innerHeight, false);

  // Behind the canvas: filters, rows after the first pass (and one that is read but does not count), then, where it is needed, the result
  // and a band of the source.
  const { low, high } = rows;
  const pitch = image.width * channels;
  const bandRows = Math.max(1, Math.min(high - low, Math.floor(BAND / pitch)));
  const innerPlane = innerHeight * innerWidth;
  const betweenPitch = (innerWidth + 15) & ~15;
  const betweenPlane = (high - low) * betweenPitch;
  const columnTables = canvas.end;
  const rowTables = columnTables + region(columns.bytes(inTwos));
  const between = rowTables + region(rows.bytes(inOnes));
  const result = between + region(channels * betweenPlane + betweenPitch);
  const band = whole ? result : result + region(channels * innerPlane);
  const memory = memoryFrom(band, source.address === undefined ? region(bandRows * pitch) : 0);
  const { bytes } = memory;
  const columnWeights = columns.store(memory, columnTables, inTwos, 0, channels);
  const rowWeights = rows.store(memory, rowTables, inOnes, low, 1);

  const quads = Math.ceil(columns.taps / 4);
  const filterRows = channels === 3 ? kernels.filterRgb : kernels.filterGrey;
  const toBetween = (from: number, y: number, n: number): void => {
    const to = between + (y - low) * betweenPitch;
    filterRows(from, pitch, n, columnTables, columnWeights, quads, innerWidth, to, betweenPitch, betweenPlane);
  };
  if (source.address === undefined) {
    for (let y = low; y < high; y += bandRows) {
      const n = Math.min(bandRows, high - y);
      bytes.set(image.data.subarray(y * pitch, (y + n) * pitch), band);
      toBetween(band, y, n);
    }
  } else {
    toBetween(source.address + low * pitch, low, high - low);
  }
  const pairs = Math.ceil(rows.taps / 2);
  const [out, step] = whole ? [canvas.address, canvas.step] : [result, innerPlane];
  for (let c = 0; c < channels; c++) {
    const from = between + c * betweenPlane;
    kernels.filterColumns(from, betweenPitch, rowTables, rowWeights, pairs, innerHeight, innerWidth, out + c * step);
  }
  if (whole) return;
  const left = flip ? window.x + width - x0 - innerWidth : x0 - window.x;
  const top = y0 - window.y;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < innerHeight; y++) {
      const from = result + c * innerPlane + y * innerWidth;
      bytes.copyWithin(canvas.address + c * canvas.step + (top + y) * width + left, from, from + innerWidth);
    }
  }
}

/** Crops, resizes and flips `image` into `out` at `at`, as planes [channels][height][width] of the given size. */
export function resample(image: Pixels, window: Window, height: number, width: number, out: Uint8Array, at: number): void {
  const source = placeSource(image);
  const canvas = createCanvas(image.channels, height, width, source.end);
  resampleOn(source, window, canvas);
  copyOut(canvas, out, at);
}
