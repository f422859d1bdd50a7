// What can be done to one crop, as plain objects: they travel to worker threads, into a run's recipe.json, and can be compared.
// The functions fill in defaults (those of torchvision) and refuse values that make no sense.
// Order matters: first where the pixels come from (randomResizedCrop, or resize and/or centerCrop), then what is done to them;
// a flip may stand anywhere.
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
export type Transform =
  | RandomResizedCrop
  | Resize
  | CenterCrop
  | HorizontalFlip
  | ColorJitter
  | Grayscale
  | GaussianBlur
  | Solarize;

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
