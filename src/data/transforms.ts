// What can be done to one crop, as plain objects: they travel to worker threads, into a run's recipe.json, and can be compared.
// The functions fill in defaults (those of torchvision) and refuse values that make no sense.
// Order matters: first where the pixels come from (randomResizedCrop, or resize and/or centerCrop), then what is done to them;
// a flip may stand anywhere.
import type { AffineInterpolation } from "./affine.js";
import { DataError } from "./errors.js";
import type { Interpolation } from "./resample.js";

export type Range = readonly [low: number, high: number];
/** [height, width] in pixels. */
export type Size = readonly [height: number, width: number];

/** Random transforms with the same `key` draw the same numbers in every crop of a sample: the same crop box, the same flip. */
interface Keyed {
  readonly key?: string;
}

export interface RandomResizedCrop extends Keyed {
  readonly op: "randomResizedCrop";
  readonly scale: Range;
  readonly ratio: Range;
  readonly interpolation: Interpolation;
}
export interface Resize {
  readonly op: "resize";
  /** A number is the length of the shorter side; without a size, the view's own. */
  readonly size?: number | Size;
  readonly interpolation: Interpolation;
}
export interface CenterCrop {
  readonly op: "centerCrop";
}
export interface HorizontalFlip extends Keyed {
  readonly op: "horizontalFlip";
  readonly p: number;
}
export interface ColorJitter extends Keyed {
  readonly op: "colorJitter";
  readonly brightness: Range;
  readonly contrast: Range;
  readonly saturation: Range;
  readonly hue: Range;
  readonly p: number;
}
export interface Grayscale extends Keyed {
  readonly op: "grayscale";
  readonly p: number;
}
export interface GaussianBlur extends Keyed {
  readonly op: "gaussianBlur";
  readonly sigma: Range;
  readonly p: number;
}
export interface Solarize extends Keyed {
  readonly op: "solarize";
  readonly threshold: number;
  readonly p: number;
}
export interface RandAugment extends Keyed {
  readonly op: "randAugment";
  /** Common strength of the operations, 0 to 10. */
  readonly magnitude: number;
  /** Standard deviation of each operation's own strength. */
  readonly std: number;
  /** Operations drawn for a crop. */
  readonly layers: number;
  /** Probability that a drawn operation is carried out. */
  readonly p: number;
  /** More strength is more change for every operation. */
  readonly increasing: boolean;
  /** Of shears, translations and rotations. */
  readonly interpolation: AffineInterpolation;
  /** Grey level of each channel for what comes from outside of the crop. */
  readonly fill: readonly number[];
}
export type Transform =
  | RandomResizedCrop
  | Resize
  | CenterCrop
  | HorizontalFlip
  | ColorJitter
  | Grayscale
  | GaussianBlur
  | Solarize
  | RandAugment;

function probability(where: string, p: number): number {
  if (!(p >= 0 && p <= 1)) throw new DataError(`${where}: p is ${p}; expected a probability from 0 to 1.`);
  return p;
}

function range(where: string, name: string, value: Range, low: number, high: number): Range {
  if (!(value[0] <= value[1] && value[0] >= low && value[1] <= high)) {
    throw new DataError(
      `${where}: ${name} is [${value[0]}, ${value[1]}]; expected [low, high] with ${low} <= low <= high <= ${high}.`,
    );
  }
  return [value[0], value[1]];
}

/** `{ key }`, or nothing, so that plans without keys stay short in JSON. */
function keyed(key: string | undefined): Keyed {
  return key === undefined ? {} : { key };
}

/**
 * A box of random area (`scale` of the image's) and aspect ratio (`ratio`, width/height, log-uniform), resized to the view's size.
 * torchvision's rule: ten tries, then the central crop nearest to the ratios. Defaults: scale [0.08, 1], ratio [3/4, 4/3], bilinear.
 */
export function randomResizedCrop(
  options: { scale?: Range; ratio?: Range; interpolation?: Interpolation; key?: string } = {},
): RandomResizedCrop {
  const where = "randomResizedCrop";
  const scale = range(where, "scale", options.scale ?? [0.08, 1], Number.MIN_VALUE, 1);
  const ratio = range(where, "ratio", options.ratio ?? [3 / 4, 4 / 3], Number.MIN_VALUE, Number.MAX_VALUE);
  return { op: where, scale, ratio, interpolation: options.interpolation ?? "bilinear", ...keyed(options.key) };
}

/** Resizes the whole image: to [height, width], by the shorter side (a number), or to the view's size (left out). */
export function resize(options: { size?: number | Size; interpolation?: Interpolation } = {}): Resize {
  const { size, interpolation = "bilinear" } = options;
  for (const side of size === undefined ? [] : typeof size === "number" ? [size] : size) {
    if (!Number.isInteger(side) || side < 1) throw new DataError(`resize: size is ${side}; expected whole pixels, 1 or more.`);
  }
  return size === undefined ? { op: "resize", interpolation } : { op: "resize", size, interpolation };
}

/** The middle of the (resized) image in the view's size; where the image is smaller, black is added around it. */
export function centerCrop(): CenterCrop {
  return { op: "centerCrop" };
}

/** Left and right swapped with probability p (default 0.5). */
export function horizontalFlip(options: { p?: number; key?: string } = {}): HorizontalFlip {
  return { op: "horizontalFlip", p: probability("horizontalFlip", options.p ?? 0.5), ...keyed(options.key) };
}

/**
 * Brightness, contrast, saturation and hue in random order, with probability p (default 1). A number b stands for factors
 * from max(0, 1 - b) to 1 + b (for hue: turns from -h to h, at most 0.5); a pair is the range itself. Defaults: no change.
 */
export function colorJitter(
  options: {
    brightness?: number | Range;
    contrast?: number | Range;
    saturation?: number | Range;
    hue?: number | Range;
    p?: number;
    key?: string;
  } = {},
): ColorJitter {
  const where = "colorJitter";
  const factor = (name: "brightness" | "contrast" | "saturation"): Range => {
    const value = options[name] ?? 0;
    return range(where, name, typeof value === "number" ? [Math.max(0, 1 - value), 1 + value] : value, 0, Number.MAX_VALUE);
  };
  const turn = options.hue ?? 0;
  return {
    op: where,
    brightness: factor("brightness"),
    contrast: factor("contrast"),
    saturation: factor("saturation"),
    hue: range(where, "hue", typeof turn === "number" ? [-turn, turn] : turn, -0.5, 0.5),
    p: probability(where, options.p ?? 1),
    ...keyed(options.key),
  };
}

/** Grey (ITU-R 601 luma in all channels) with probability p (default 0.1). */
export function grayscale(options: { p?: number; key?: string } = {}): Grayscale {
  return { op: "grayscale", p: probability("grayscale", options.p ?? 0.1), ...keyed(options.key) };
}

/** Gaussian blur with a standard deviation drawn from `sigma` in pixels (default [0.1, 2]), with probability p (default 1). */
export function gaussianBlur(options: { sigma?: Range; p?: number; key?: string } = {}): GaussianBlur {
  const sigma = range("gaussianBlur", "sigma", options.sigma ?? [0.1, 2], Number.MIN_VALUE, 1000);
  return { op: "gaussianBlur", sigma, p: probability("gaussianBlur", options.p ?? 1), ...keyed(options.key) };
}

/** Inverts values of `threshold` (default 128) and above, with probability p (default 1). */
export function solarize(options: { threshold?: number; p?: number; key?: string } = {}): Solarize {
  const threshold = options.threshold ?? 128;
  if (!(threshold >= 0 && threshold <= 256)) throw new DataError(`solarize: threshold is ${threshold}; expected 0 to 256.`);
  return { op: "solarize", threshold, p: probability("solarize", options.p ?? 1), ...keyed(options.key) };
}

/**
 * timm's RandAugment: `layers` operations (default 2) drawn with replacement from fifteen, each carried out with probability p (default 0.5) at
 * a strength of normal distribution about `magnitude` (default 9) with deviation `std` (default 0.5), cut to 0..10. Defaults are
 * `rand-m9-mstd0.5-inc1`, bicubic, filled with 128; the papers fill with the mean colour. `fill` has one grey level, or one a channel.
 */
export function randAugment(
  options: {
    magnitude?: number;
    std?: number;
    layers?: number;
    p?: number;
    increasing?: boolean;
    interpolation?: AffineInterpolation;
    fill?: number | readonly number[];
    key?: string;
  } = {},
): RandAugment {
  const where = "randAugment";
  const { magnitude = 9, std = 0.5, layers = 2, increasing = true, interpolation = "bicubic", fill = 128 } = options;
  if (!(magnitude >= 0 && magnitude <= 10)) throw new DataError(`${where}: magnitude is ${magnitude}; expected 0 to 10.`);
  if (!(std >= 0 && std < Number.POSITIVE_INFINITY)) throw new DataError(`${where}: std is ${std}; expected 0 or more.`);
  if (!Number.isInteger(layers) || layers < 1) {
    throw new DataError(`${where}: layers is ${layers}; expected a whole number, 1 or more.`);
  }
  const levels = typeof fill === "number" ? [fill, fill, fill] : [...fill];
  const wrong = levels.find((level) => !(Number.isInteger(level) && level >= 0 && level <= 255));
  if (wrong !== undefined || levels.length === 0) {
    throw new DataError(`${where}: fill is ${wrong ?? "empty"}; expected grey levels, whole numbers from 0 to 255.`);
  }
  const p = probability(where, options.p ?? 0.5);
  return { op: where, magnitude, std, layers, p, increasing, interpolation, fill: levels, ...keyed(options.key) };
}

/**
 * What a name as timm and the papers' code write it stands for: `rand-m9-mstd0.5-inc1` has m(agnitude), mstd, inc, n (layers) and p; left out
 * they are 10, 0, 0, 2 and 0.5.
 *
 * @throws DataError for other text
 */
export function parseRandAugment(text: string): Pick<RandAugment, "magnitude" | "std" | "layers" | "p" | "increasing"> {
  const [kind, ...parts] = text.split("-");
  const found = { m: 10, mstd: 0, inc: 0, n: 2, p: 0.5 };
  const fail = (what: string): never => {
    throw new DataError(`RandAugment "${text}": ${what}; expected text such as rand-m9-mstd0.5-inc1, of m, mstd, inc, n and p.`);
  };
  if (kind !== "rand") fail(`it begins with "${kind}"`);
  for (const part of parts) {
    const [, key, value] = /^([a-z]+)(\d+(?:\.\d+)?)$/.exec(part) ?? [];
    if (key === undefined || !Object.hasOwn(found, key)) fail(`"${part}" is none of its parts`);
    found[key as keyof typeof found] = Number(value);
  }
  const { op: _, ...options } = randAugment({
    magnitude: found.m,
    std: found.mstd,
    layers: found.n,
    p: found.p,
    increasing: found.inc !== 0,
  });
  const { magnitude, std, layers, p, increasing } = options;
  return { magnitude, std, layers, p, increasing };
}
