// Which views the loader makes of one image, and the plans of the published methods.
import { DataError } from "./errors.js";
import type { Interpolation } from "./resample.js";
import {
  centerCrop,
  colorJitter,
  gaussianBlur,
  grayscale,
  horizontalFlip,
  type Range,
  randomResizedCrop,
  resize,
  type Size,
  solarize,
  type Transform,
} from "./transforms.js";

/** A group of crops of one size, e.g. DINO's eight local crops. */
export interface ViewSpec {
  readonly name: string;
  readonly size: Size;
  /** One list of transforms for each crop. */
  readonly crops: readonly (readonly Transform[])[];
}

/** Everything that is made of one image. `mean` and `std` (of values scaled to 0..1) are applied where bytes become tensors. */
export interface ViewPlan {
  readonly channels: 1 | 3;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly views: readonly ViewSpec[];
}

/** Per-channel mean and standard deviation of values scaled to 0..1. */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

const imagenet: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const greyImagenet: Normalization = { mean: [0.449], std: [0.226] };

/** Options every preset takes. */
export interface PlanOptions {
  /** 3 (default), or 1 for models that see grey images. */
  channels?: 1 | 3;
  /** Default: ImageNet's mean and standard deviation; for one channel their average, 0.449 and 0.226. */
  normalization?: Normalization;
}

function plan(options: PlanOptions, views: ViewSpec[]): ViewPlan {
  const channels = options.channels ?? 3;
  const { mean, std } = options.normalization ?? (channels === 1 ? greyImagenet : imagenet);
  return { channels, mean: [...mean], std: [...std], views: views.filter((view) => view.crops.length > 0) };
}

function square(size: number | Size): Size {
  return typeof size === "number" ? [size, size] : size;
}

/** The colour jitter of BYOL and DINO: brightness and contrast 0.4, saturation 0.2, hue 0.1. */
function distort(interpolatedCrop: Transform, blur: number, solarise: number): Transform[] {
  return [
    interpolatedCrop,
    horizontalFlip({ p: 0.5 }),
    colorJitter({ brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1, p: 0.8 }),
    grayscale({ p: 0.2 }),
    ...(blur > 0 ? [gaussianBlur({ p: blur, sigma: [0.1, 2] })] : []),
    ...(solarise > 0 ? [solarize({ p: solarise, threshold: 128 })] : []),
  ];
}

/**
 * DINO's multi-crop (Caron et al. 2021, section 3.2, and its code): "global", two crops with asymmetric blur and solarisation, and
 * "local", `locals` small ones. Defaults: 224 px of scale [0.4, 1], 8 of 96 px of scale [0.05, 0.4], bicubic.
 */
export function dinoViews(
  options: PlanOptions & {
    globalSize?: number | Size;
    localSize?: number | Size;
    locals?: number;
    globalScale?: Range;
    localScale?: Range;
    interpolation?: Interpolation;
  } = {},
): ViewPlan {
  const { globalSize = 224, localSize = 96, locals = 8, globalScale = [0.4, 1], localScale = [0.05, 0.4] } = options;
  const { interpolation = "bicubic" } = options;
  const crop = (scale: Range): Transform => randomResizedCrop({ scale, interpolation });
  return plan(options, [
    { name: "global", size: square(globalSize), crops: [distort(crop(globalScale), 1, 0), distort(crop(globalScale), 0.1, 0.2)] },
    { name: "local", size: square(localSize), crops: Array.from({ length: locals }, () => distort(crop(localScale), 0.5, 0)) },
  ]);
}

/**
 * MoCo v3's two asymmetric crops (Chen et al. 2021, and its code, after BYOL), as view "global". Defaults: 224 px, scale from
 * `cropMin` 0.08 to 1, bilinear. (The published code flips last; a flip commutes with everything before it.)
 */
export function mocoViews(
  options: PlanOptions & { size?: number | Size; cropMin?: number; interpolation?: Interpolation } = {},
): ViewPlan {
  const { size = 224, cropMin = 0.08, interpolation = "bilinear" } = options;
  const crop = randomResizedCrop({ scale: [cropMin, 1], interpolation });
  return plan(options, [{ name: "global", size: square(size), crops: [distort(crop, 1, 0), distort(crop, 0.1, 0.2)] }]);
}

/** A second look at the crop that a view has: the same region, flipped alike, at a size of its own. */
export interface PairedView {
  name: string;
  size: number | Size;
  interpolation: Interpolation;
}

/**
 * One crop and a flip, no change of colour, as view "image": MAE's and most masked methods'. Defaults: 224 px, scale [0.2, 1], ratio
 * [3/4, 4/3], bicubic, flip 0.5; `pairs` are further views of the very same crop.
 */
export function plainViews(
  options: PlanOptions & {
    size?: number | Size;
    scale?: Range;
    ratio?: Range;
    interpolation?: Interpolation;
    flip?: number;
    pairs?: readonly PairedView[];
  } = {},
): ViewPlan {
  const { size = 224, scale = [0.2, 1], ratio = [3 / 4, 4 / 3], interpolation = "bicubic", flip = 0.5, pairs = [] } = options;
  const view = ({ name, size, interpolation }: PairedView) => ({
    name,
    size: square(size),
    crops: [
      [
        randomResizedCrop({ scale, ratio, interpolation, key: "crop" }),
        ...(flip > 0 ? [horizontalFlip({ p: flip, key: "flip" })] : []),
      ],
    ],
  });
  return plan(options, [{ name: "image", size, interpolation }, ...pairs].map(view));
}

/**
 * No chance at all, as view "image": the shorter side to `resize`, then the middle `size` x `size`. Defaults: 224 of 256, bicubic.
 * `resize: "exact"` resizes straight to `size` (small images), `resize: false` only crops.
 */
export function evalViews(
  options: PlanOptions & { size?: number | Size; resize?: number | "exact" | false; interpolation?: Interpolation } = {},
): ViewPlan {
  const { size = 224, interpolation = "bicubic" } = options;
  const target = square(size);
  const shorter = options.resize ?? Math.round((Math.min(...target) * 256) / 224);
  const crop: Transform[] =
    shorter === "exact"
      ? [resize({ interpolation })]
      : shorter === false
        ? [centerCrop()]
        : [resize({ size: shorter, interpolation }), centerCrop()];
  return plan(options, [{ name: "image", size: target, crops: [crop] }]);
}

/** Bytes of one sample in a view: count * channels * height * width. */
export function viewBytes(plan: ViewPlan, view: ViewSpec): number {
  return view.crops.length * plan.channels * view.size[0] * view.size[1];
}

const geometric = new Set(["randomResizedCrop", "resize", "centerCrop"]);

/** Refuses a plan that cannot be carried out, saying which view and why. */
export function checkPlan(plan: ViewPlan): void {
  const fail = (what: string): never => {
    throw new DataError(`The view plan is wrong: ${what}.`);
  };
  if (plan.channels !== 1 && plan.channels !== 3) fail(`channels is ${plan.channels}; expected 1 or 3`);
  for (const [name, values] of [["mean", plan.mean] as const, ["std", plan.std] as const]) {
    if (values.length !== plan.channels) fail(`${name} has ${values.length} values for ${plan.channels} channels`);
  }
  if (plan.views.length === 0) fail("it has no views");
  const names = new Set<string>();
  for (const view of plan.views) {
    if (names.has(view.name)) fail(`two views are called "${view.name}"`);
    names.add(view.name);
    if (!view.size.every((side) => Number.isInteger(side) && side > 0)) {
      fail(`view "${view.name}" has size [${view.size}]; expected [height, width] in whole pixels`);
    }
    if (view.crops.length === 0) fail(`view "${view.name}" has no crops`);
    for (const crop of view.crops) {
      const order = crop.map((step) => step.op).filter((op) => op !== "horizontalFlip");
      const start = order.filter((op) => geometric.has(op)).join(", ");
      if (!["", "randomResizedCrop", "resize", "centerCrop", "resize, centerCrop"].includes(start)) {
        fail(`view "${view.name}" has the steps ${start}; expected randomResizedCrop alone, or resize and/or centerCrop`);
      }
      const steps = order.filter((op) => geometric.has(op)).length;
      if (order.slice(0, steps).some((op) => !geometric.has(op))) {
        fail(`view "${view.name}" crops or resizes after a change of colour; put ${start} first`);
      }
      const filled = crop.find((step) => step.op === "randAugment" && step.fill.length < plan.channels);
      if (filled) fail(`view "${view.name}" has a randAugment with fewer fill levels than the ${plan.channels} channels`);
      const resized = crop.find((step) => step.op === "resize");
      const fixed = resized?.size === undefined || (typeof resized.size === "object" && `${resized.size}` === `${view.size}`);
      if (resized && !fixed && !order.includes("centerCrop")) {
        fail(`view "${view.name}" resizes to ${resized.size}, which is not its size [${view.size}]; add centerCrop() after it`);
      }
    }
  }
}
