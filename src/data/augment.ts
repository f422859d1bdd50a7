// Carries out a ViewPlan on one image: for each crop, find the window (crop, resize and flip in one resampling step), then the pixel
// operations in place. Random choices come from streams keyed by (seed, epoch, sample, crop, step).
import { gaussianBlur } from "./blur.js";
import { type Canvas, copyOut, createCanvas, drawOn } from "./canvas.js";
import { brightness, contrast, greyscale, hue, saturation, solarise } from "./color.js";
import { DataError } from "./errors.js";
import { memoryFrom } from "./kernels.js";
import { type Pixels, toGrey } from "./pixels.js";
import { randAugmentCrop } from "./rand-augment.js";
import { placeSource, resampleOn, type Source, type Window } from "./resample.js";
import { namedStream, Rng } from "./rng.js";
import type { ColorJitter, RandomResizedCrop, Range, Size, Transform } from "./transforms.js";
import { checkPlan, type ViewPlan } from "./views.js";

/** Python's round: halves to the even neighbour. */
function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

type Box = Window["box"];

/** torchvision's RandomResizedCrop.get_params: ten tries, then the central crop nearest to the ratios. */
export function randomBox(width: number, height: number, scale: Range, ratio: Range, rng: Rng): Box {
  const area = width * height;
  const low = Math.log(ratio[0]);
  const high = Math.log(ratio[1]);
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = area * rng.uniform(scale[0], scale[1]);
    const aspect = Math.exp(rng.uniform(low, high));
    const w = roundHalfEven(Math.sqrt(target * aspect));
    const h = roundHalfEven(Math.sqrt(target / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const top = rng.intBelow(height - h + 1);
      const left = rng.intBelow(width - w + 1);
      return { left, top, right: left + w, bottom: top + h };
    }
  }
  const aspect = width / height;
  let w = width;
  let h = height;
  if (aspect < ratio[0]) h = Math.max(1, Math.min(height, roundHalfEven(w / ratio[0])));
  else if (aspect > ratio[1]) w = Math.max(1, Math.min(width, roundHalfEven(h * ratio[1])));
  const top = Math.floor((height - h) / 2);
  const left = Math.floor((width - w) / 2);
  return { left, top, right: left + w, bottom: top + h };
}

/** Where the crop's pixels come from. `steps` has been checked by `checkPlan`. */
function windowFor(steps: readonly Step[], image: Pixels, size: Size, rngFor: (step: Step) => Rng): Window {
  const { width, height } = image;
  let box: Box = { left: 0, top: 0, right: width, bottom: height };
  let [outHeight, outWidth] = [height, width];
  let [x, y] = [0, 0];
  let flip = false;
  let interpolation: Window["interpolation"] = "bilinear";
  for (const step of steps) {
    const { transform } = step;
    if (transform.op === "randomResizedCrop") {
      box = pickBox(transform, width, height, rngFor(step));
      [outHeight, outWidth] = size;
      interpolation = transform.interpolation;
    } else if (transform.op === "resize") {
      interpolation = transform.interpolation;
      const wanted = transform.size ?? size;
      if (typeof wanted === "number") {
        const long = Math.max(1, Math.trunc((wanted * Math.max(width, height)) / Math.min(width, height)));
        [outHeight, outWidth] = width <= height ? [long, wanted] : [wanted, long];
      } else {
        [outHeight, outWidth] = wanted;
      }
    } else if (transform.op === "centerCrop") {
      y = roundHalfEven((outHeight - size[0]) / 2);
      x = roundHalfEven((outWidth - size[1]) / 2);
      if (outHeight < size[0]) y = -Math.floor((size[0] - outHeight) / 2);
      if (outWidth < size[1]) x = -Math.floor((size[1] - outWidth) / 2);
    } else if (transform.op === "horizontalFlip") {
      if (rngFor(step).chance(transform.p)) flip = !flip;
    }
  }
  if (!steps.some((step) => step.transform.op === "centerCrop") && (outHeight !== size[0] || outWidth !== size[1])) {
    throw new DataError(
      `An image of ${outHeight}x${outWidth} does not fit a view of ${size[0]}x${size[1]}; add resize(), centerCrop() or ` +
        "randomResizedCrop() to the view's transforms.",
    );
  }
  return { box, bounds: box, width: outWidth, height: outHeight, x, y, flip, interpolation };
}

function pickBox(transform: RandomResizedCrop, width: number, height: number, rng: Rng): Box {
  return randomBox(width, height, transform.scale, transform.ratio, rng);
}

const jitterOrder = new Uint8Array(4);

/** torchvision's ColorJitter: the four changes in random order, each with a factor of its own. */
function jitter(transform: ColorJitter, rng: Rng, canvas: Canvas): void {
  for (let i = 0; i < 4; i++) jitterOrder[i] = i;
  rng.shuffle(jitterOrder);
  const [b, c, s, h] = [transform.brightness, transform.contrast, transform.saturation, transform.hue].map((range) =>
    rng.uniform(range[0], range[1]),
  ) as [number, number, number, number];
  for (const change of jitterOrder) {
    if (change === 0 && b !== 1) brightness(canvas, b);
    else if (change === 1 && c !== 1) contrast(canvas, c);
    else if (change === 2 && s !== 1) saturation(canvas, s);
    else if (change === 3 && h !== 0) hue(canvas, h);
  }
}

/** A grey picture in all three channels. */
function repeatFirst({ address, step, plane, end }: Canvas): void {
  const { bytes } = memoryFrom(end, 0);
  for (let c = 1; c < 3; c++) bytes.copyWithin(address + c * step, address, address + plane);
}

/** A transform and the stream its draws come from. */
interface Step {
  readonly transform: Transform;
  readonly stream: number;
}

interface Crop {
  readonly geometry: readonly Step[];
  readonly colour: readonly Step[];
}

const geometry = new Set(["randomResizedCrop", "resize", "centerCrop", "horizontalFlip"]);

/** A plan made ready to run. One per thread; not re-entrant. */
export class Augmenter {
  readonly #rng: Rng;
  readonly #plan: ViewPlan;
  readonly #crops: readonly (readonly Crop[])[];

  constructor(plan: ViewPlan, seed: number) {
    checkPlan(plan);
    this.#plan = plan;
    this.#rng = new Rng(seed);
    let number = 0;
    this.#crops = plan.views.map((view) =>
      view.crops.map((transforms) => {
        const base = ++number << 8;
        const steps = transforms.map((transform, i): Step => {
          const key = "key" in transform ? transform.key : undefined;
          return { transform, stream: key === undefined ? base + i : namedStream(`${transform.op}:${key}`) };
        });
        return {
          geometry: steps.filter((step) => geometry.has(step.transform.op)),
          colour: steps.filter((step) => !geometry.has(step.transform.op)),
        };
      }),
    );
  }

  /**
   * All crops of one image as element `row` of a batch of `rows`: `outs[v]` is view v, laid out [count][rows][C][H][W].
   * `sample` is the number the draws are keyed by.
   */
  run(image: Pixels, epoch: number, sample: number, outs: readonly Uint8Array[], row: number, rows: number): void {
    const { channels, views } = this.#plan;
    const source = channels === 1 ? toGrey(image) : image;
    const rngFor = (step: Step): Rng => this.#rng.at(epoch, sample, step.stream);
    const placed = placeSource(source);
    for (let v = 0; v < views.length; v++) {
      const { size } = views[v]!;
      const [height, width] = size;
      const crops = this.#crops[v]!;
      const canvas = createCanvas(channels, height, width, placed.end);
      for (let c = 0; c < crops.length; c++) {
        const at = (c * rows + row) * channels * height * width;
        this.#make(crops[c]!, placed, size, canvas, outs[v]!, at, rngFor);
      }
    }
  }

  /** One crop, at its place in the batch. */
  #make(
    { geometry, colour }: Crop,
    source: Source,
    size: Size,
    canvas: Canvas,
    out: Uint8Array,
    at: number,
    rngFor: (step: Step) => Rng,
  ): void {
    resampleOn(source, windowFor(geometry, source.image, size, rngFor), canvas);
    if (source.image.channels < canvas.channels) repeatFirst(canvas);
    for (const step of colour) {
      const { transform } = step;
      const rng = rngFor(step);
      if (transform.op === "randAugment") {
        const { height, width, channels } = canvas;
        copyOut(canvas, out, at);
        randAugmentCrop(transform, rng, { data: out, at, height, width, channels });
        drawOn(canvas, out, at);
        continue;
      }
      if (!("p" in transform) || !rng.chance(transform.p)) continue;
      if (transform.op === "colorJitter") jitter(transform, rng, canvas);
      else if (transform.op === "grayscale") greyscale(canvas);
      else if (transform.op === "solarize") solarise(canvas, transform.threshold);
      else if (transform.op === "gaussianBlur") gaussianBlur(canvas, rng.uniform(transform.sigma[0], transform.sigma[1]));
    }
    copyOut(canvas, out, at);
  }
}
