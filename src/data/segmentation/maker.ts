// Carries out a SegmentationPlan on one image: random scale, crop, flip, distortion, and what is missing filled up. Every choice is a function of
// (seed, epoch, sample).
import { DataError } from "../errors.js";
import { type Pixels, toGrey } from "../pixels.js";
import { resample } from "../resample.js";
import { namedStream, Rng } from "../rng.js";
import type { Size } from "../transforms.js";
import { distort, drawDistortion } from "./distort.js";
import { checkSegmentationPlan, fitted, IGNORE_LABEL, type SegmentationPlan } from "./plan.js";

const streams = {
  scale: namedStream("segmentation:scale"),
  crop: namedStream("segmentation:crop"),
  flip: namedStream("segmentation:flip"),
  distort: namedStream("segmentation:distort"),
};

/** How often another crop is drawn where one class covers too much of it. */
const TRIES = 10;

/** A part of the resized image. */
interface Crop {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** A sample of `segmentationPlan`: outputs `image` and `labels`. */
export class SegmentationMaker {
  readonly #plan: SegmentationPlan;
  readonly #rng: Rng;
  #image = new Uint8Array(0);
  readonly #counts = new Uint32Array(256);

  constructor(plan: SegmentationPlan, seed: number) {
    checkSegmentationPlan(plan);
    this.#plan = plan;
    this.#rng = new Rng(seed);
  }

  run(image: Pixels, epoch: number, sample: number, outs: readonly Uint8Array[], row: number): void {
    const { channels, size, fit, ratio, flip, distort: distorted } = this.#plan;
    if (!image.labels) throw new DataError("The images have no classes of their pixels, which a segmentation plan needs.");
    const at = (stream: number) => this.#rng.at(epoch, sample, stream);
    const scaled = fitted(image.height, image.width, fit, at(streams.scale).uniform(ratio[0], ratio[1]));
    const crop = this.#crop(image, scaled, at(streams.crop));
    const flipped = at(streams.flip).chance(flip);
    const labelOut = outs[1]!.subarray(row * size[0] * size[1], (row + 1) * size[0] * size[1]);
    copyLabels(image, scaled, crop, flipped, labelOut, size);

    const plane = crop.height * crop.width;
    if (this.#image.length < channels * plane) this.#image = new Uint8Array(channels * plane);
    const pixels = this.#image.subarray(0, channels * plane);
    resizeInto(image, scaled, crop, flipped, channels, pixels);
    if (distorted) distort(pixels, plane, drawDistortion(at(streams.distort)));
    const imageOut = outs[0]!.subarray(row * channels * size[0] * size[1], (row + 1) * channels * size[0] * size[1]);
    fillUp(pixels, crop, imageOut, size, this.#plan);
  }

  /** A random crop; another one as long as one class covers more than the allowed share of its labelled pixels. */
  #crop(image: Pixels, [height, width]: Size, rng: Rng): Crop {
    const { size, catMaxRatio } = this.#plan;
    const [h, w] = [Math.min(size[0], height), Math.min(size[1], width)];
    const draw = (): Crop => {
      const top = rng.intBelow(height - h + 1);
      return { top, left: rng.intBelow(width - w + 1), height: h, width: w };
    };
    let crop = draw();
    // An image that is taken whole has no other crop.
    if (catMaxRatio >= 1 || (h === height && w === width)) return crop;
    for (let tries = 0; tries < TRIES && this.#isMonotonous(image, [height, width], crop); tries++) crop = draw();
    return crop;
  }

  /** Whether there is but one class, or one covers too much. */
  #isMonotonous(image: Pixels, scaled: Size, crop: Crop): boolean {
    const counts = this.#counts.fill(0);
    forEachLabel(image, scaled, crop, (label) => {
      counts[label]!++;
    });
    counts[IGNORE_LABEL] = 0;
    let [sum, most, classes] = [0, 0, 0];
    for (const count of counts) {
      sum += count;
      if (count > most) most = count;
      if (count > 0) classes++;
    }
    return !(classes > 1 && most / sum < this.#plan.catMaxRatio);
  }
}

/** Source coordinates of so many pixels of a resized side: the nearest ones by pixel centres. */
function nearest(from: number, count: number, side: number, resized: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => Math.min(side - 1, Math.floor(((from + i + 0.5) * side) / resized)));
}

function forEachLabel(image: Pixels, scaled: Size, crop: Crop, visit: (label: number, y: number, x: number) => void): void {
  const rows = nearest(crop.top, crop.height, image.height, scaled[0]);
  const columns = nearest(crop.left, crop.width, image.width, scaled[1]);
  const labels = image.labels!;
  for (let y = 0; y < crop.height; y++) {
    const from = rows[y]! * image.width;
    for (let x = 0; x < crop.width; x++) visit(labels[from + columns[x]!]!, y, x);
  }
}

function copyLabels(image: Pixels, scaled: Size, crop: Crop, flip: boolean, out: Uint8Array, size: Size): void {
  out.fill(IGNORE_LABEL);
  forEachLabel(image, scaled, crop, (label, y, x) => {
    out[y * size[1] + (flip ? crop.width - 1 - x : x)] = label;
  });
}

/** The crop of the resized image as planes. */
function resizeInto(image: Pixels, scaled: Size, crop: Crop, flip: boolean, channels: 1 | 3, out: Uint8Array): void {
  const source = channels === 1 ? toGrey(image) : image;
  const box = { left: 0, top: 0, right: image.width, bottom: image.height };
  const window = { box, bounds: box, width: scaled[1], height: scaled[0], x: crop.left, y: crop.top, flip };
  resample(source, { ...window, interpolation: "bilinear" }, crop.height, crop.width, out, 0);
  if (source.channels < channels) {
    const plane = crop.height * crop.width;
    out.copyWithin(plane, 0, plane);
    out.copyWithin(2 * plane, 0, plane);
  }
}

/** Puts the crop into the upper left corner; the rest has the mean colour, which normalisation makes 0. */
function fillUp(pixels: Uint8Array, crop: Crop, out: Uint8Array, size: Size, { channels, mean }: SegmentationPlan): void {
  if (crop.height === size[0] && crop.width === size[1]) {
    out.set(pixels);
    return;
  }
  const [plane, small] = [size[0] * size[1], crop.height * crop.width];
  for (let c = 0; c < channels; c++) {
    out.fill(Math.round(255 * mean[c]!), c * plane, (c + 1) * plane);
    for (let y = 0; y < crop.height; y++) {
      const from = c * small + y * crop.width;
      out.set(pixels.subarray(from, from + crop.width), c * plane + y * size[1]);
    }
  }
}

/** A whole image resized without chance, as planes [channels][height][width]. */
export function resizedPlanes(image: Pixels, size: Size, channels: 1 | 3): Uint8Array {
  const out = new Uint8Array(channels * size[0] * size[1]);
  resizeInto(image, size, { top: 0, left: 0, height: size[0], width: size[1] }, false, channels, out);
  return out;
}
