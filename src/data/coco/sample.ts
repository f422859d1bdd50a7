// One image of a detection batch as bytes: its pixels, and its objects' boxes, labels and masks at the size that is shown.
import type { Pixels } from "../pixels.js";
import { resample } from "../resample.js";
import type { CocoDataset } from "./dataset.js";
import type { DetectionPlan, Placement } from "./plan.js";
import { placementOf } from "./plan.js";
import { polygonMask } from "./polygon.js";
import { decodeMask, type MaskSize, paintMask } from "./rle.js";

/** A sample in plain arrays that can be handed to another thread. Everything is in pixels of the shown image, which is `size`. */
export interface DetectionSampleBytes {
  /** The sample's number in the dataset (a replacement's where the planned one was bad). */
  readonly index: number;
  readonly imageId: number;
  readonly size: MaskSize;
  /** The image's own size. */
  readonly original: MaskSize;
  /** [3, h, w], 0 to 255. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** [n, 4]: left, top, right, bottom. */
  readonly boxes: Float32Array<ArrayBuffer>;
  readonly labels: Int32Array<ArrayBuffer>;
  /** [n]: 1 for a crowd. */
  readonly crowd: Uint8Array<ArrayBuffer>;
  /** [n, h, w], 0 or 1; [0, h, w] where the plan makes none. */
  readonly masks: Uint8Array<ArrayBuffer>;
}

/** Objects that a cut leaves less of than this many pixels in width or height are gone. */
const LEAST = 1;

interface Shown {
  readonly object: number;
  readonly box: [left: number, top: number, right: number, bottom: number];
  /** Cut by the part that is shown, beyond what the image's own edge cuts. */
  readonly cut: boolean;
}

/** Makes a sample of an image. `sample` keys the choices: the number that was planned, also where `index` stands in for it. */
export function makeSample(
  dataset: CocoDataset,
  plan: DetectionPlan,
  image: Pixels,
  { index, sample, seed, epoch }: { index: number; sample: number; seed: number; epoch: number },
): DetectionSampleBytes {
  const original = dataset.size(index);
  const place = placementOf(plan, original, seed, epoch, sample);
  const { size } = place;
  let shown = dataset.objects(index).flatMap((object) => showBox(dataset, object, original, place) ?? []);
  const plane = size[0] * size[1];
  const masks = new Uint8Array(plan.masks ? shown.length * plane : 0);
  if (plan.masks) {
    const kept: Shown[] = [];
    for (const each of shown) {
      const mask = masks.subarray(kept.length * plane, (kept.length + 1) * plane);
      const whole = drawMask(dataset, each, original, place, mask);
      if (whole) kept.push(whole);
    }
    shown = kept;
  }
  return {
    index,
    imageId: dataset.imageId(index),
    size,
    original,
    pixels: drawPixels(image, plan, place),
    boxes: Float32Array.from(shown.flatMap(({ box }) => box)),
    labels: Int32Array.from(shown, ({ object }) => dataset.labelOf(object)),
    crowd: Uint8Array.from(shown, ({ object }) => Number(dataset.isCrowd(object))),
    masks: plan.masks && shown.length * plane < masks.length ? masks.slice(0, shown.length * plane) : masks,
  };
}

function drawPixels(image: Pixels, plan: DetectionPlan, place: Placement): Uint8Array<ArrayBuffer> {
  const { resized, top, left, size, flip } = place;
  const [height, width] = size;
  const pixels = new Uint8Array(3 * height * width);
  const whole = { left: 0, top: 0, right: image.width, bottom: image.height };
  const { interpolation } = plan;
  const window = { box: whole, bounds: whole, height: resized[0], width: resized[1], x: left, y: top, flip, interpolation };
  resample(image, window, height, width, pixels, 0);
  if (image.channels === 1) {
    pixels.copyWithin(height * width, 0, height * width);
    pixels.copyWithin(2 * height * width, 0, height * width);
  }
  return pixels;
}

/** Where an object's box is shown; undefined for one that is not in sight. */
function showBox(dataset: CocoDataset, object: number, original: MaskSize, place: Placement): Shown | undefined {
  if (!dataset.isInSight(object)) return undefined;
  const [x, y, w, h] = dataset.box(object);
  const { resized, top, left, size, flip } = place;
  const [sy, sx] = [resized[0] / original[0], resized[1] / original[1]];
  // First what the image's edge leaves, then what the cut does.
  const x0 = Math.max(0, x) * sx - left;
  const y0 = Math.max(0, y) * sy - top;
  const x1 = Math.min(original[1], x + w) * sx - left;
  const y1 = Math.min(original[0], y + h) * sy - top;
  const cut = x0 < -1e-6 || y0 < -1e-6 || x1 > size[1] + 1e-6 || y1 > size[0] + 1e-6;
  const [l, t, r, b] = [Math.max(0, x0), Math.max(0, y0), Math.min(size[1], x1), Math.min(size[0], y1)];
  if (r <= l || b <= t || (cut && (r - l < LEAST || b - t < LEAST))) return undefined;
  return { object, box: flip ? [size[1] - r, t, size[1] - l, b] : [l, t, r, b], cut };
}

/**
 * Draws an object's mask. Where the object was cut, its box becomes that of the mask that is left, and it is gone with the last pixel. One that
 * is merely too small to have a pixel keeps one, in the middle of its box. An object without a mask has its box for one.
 */
function drawMask(dataset: CocoDataset, shown: Shown, original: MaskSize, place: Placement, mask: Uint8Array): Shown | undefined {
  const { size, resized, top, left, flip } = place;
  const [height, width] = size;
  const shape = dataset.shape(shown.object);
  const [l, t, r, b] = shown.box;
  if (shape === undefined) {
    fillBox(mask, size, Math.round(l), Math.round(t), Math.round(r), Math.round(b));
  } else if ("polygons" in shape) {
    const [sy, sx] = [resized[0] / original[0], resized[1] / original[1]];
    for (const points of shape.polygons) {
      const moved = Float64Array.from(points, (value, i) => (i % 2 === 0 ? value * sx - left : value * sy - top));
      if (flip) for (let i = 0; i < moved.length; i += 2) moved[i] = width - moved[i]!;
      paintMask(polygonMask(moved, size), mask);
    }
  } else {
    const source = decodeMask(shape.rle);
    for (let y = 0; y < height; y++) {
      const from = nearest(y + top, original[0], resized[0]) * original[1];
      for (let x = 0; x < width; x++) {
        mask[y * width + (flip ? width - 1 - x : x)] = source[from + nearest(x + left, original[1], resized[1])]!;
      }
    }
  }
  const tight = boxOf(mask, size);
  if (shown.cut) return tight && { ...shown, box: tight };
  if (!tight) mask[Math.min(height - 1, Math.floor((t + b) / 2)) * width + Math.min(width - 1, Math.floor((l + r) / 2))] = 1;
  return shown;
}

/** The pixel of `from` in which the middle of pixel `at` of `to` lies. */
function nearest(at: number, from: number, to: number): number {
  return Math.min(from - 1, Math.floor(((at + 0.5) * from) / to));
}

function fillBox(mask: Uint8Array, [height, width]: MaskSize, left: number, top: number, right: number, bottom: number): void {
  for (let y = Math.max(0, top); y < Math.min(height, bottom); y++)
    mask.fill(1, y * width + left, y * width + Math.min(width, right));
}

/** The box around the pixels of a mask by rows; undefined where there are none. */
function boxOf(mask: Uint8Array, [height, width]: MaskSize): [number, number, number, number] | undefined {
  let [left, right, top, bottom] = [width, -1, -1, -1];
  for (let y = 0; y < height; y++) {
    const row = mask.subarray(y * width, (y + 1) * width);
    const first = row.indexOf(1);
    if (first < 0) continue;
    if (top < 0) top = y;
    bottom = y;
    left = Math.min(left, first);
    right = Math.max(right, row.lastIndexOf(1));
  }
  return top < 0 ? undefined : [left, top, right + 1, bottom + 1];
}
