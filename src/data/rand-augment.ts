// RandAugment (Cubuk et al., 2020) as timm has it and DeiT, MAE, BEiT and CAE use it: operations drawn with replacement, each carried out with
// probability p, at a strength drawn about a common one. The operations are PIL's.
import { type AffineMatrix, affine, rotation } from "./affine.js";
import { type Canvas, onCanvas } from "./canvas.js";
import { brightness, contrast, saturation, solarise } from "./color.js";
import { autoContrast, equalise, invert, posterise, sharpness, solariseAdd } from "./point-ops.js";
import type { Rng } from "./rng.js";
import type { RandAugment } from "./transforms.js";

/** The operations, in timm's order. Translations are shares of the side. */
export const randAugmentOps = [
  "autoContrast",
  "equalize",
  "invert",
  "rotate",
  "posterize",
  "solarize",
  "solarizeAdd",
  "color",
  "contrast",
  "brightness",
  "sharpness",
  "shearX",
  "shearY",
  "translateX",
  "translateY",
] as const;
export type RandAugmentOp = (typeof randAugmentOps)[number];

/** Strengths are counted from 0 to 10. */
const FULL = 10;
/** Operations whose argument may as well point the other way. */
const signed = new Set<RandAugmentOp>(["rotate", "shearX", "shearY", "translateX", "translateY"]);
const enhancing = new Set<RandAugmentOp>(["color", "contrast", "brightness", "sharpness"]);

/**
 * The argument of an operation at a strength from 0 to 10: degrees, share of the side, bits that stay, threshold, what is added, factor.
 *
 * @param increasing more strength is always more change (timm's `inc1`); without it posterize, solarize and the factors follow other scales
 * @param negative turns what may point the other way
 */
export function randAugmentArgument(op: RandAugmentOp, strength: number, increasing: boolean, negative: boolean): number {
  const share = strength / FULL;
  const turned = (value: number) => (negative ? -value : value);
  if (enhancing.has(op)) return increasing ? Math.max(0.1, 1 + turned(share * 0.9)) : share * 1.8 + 0.1;
  if (op === "rotate") return turned(share * 30);
  if (op === "shearX" || op === "shearY") return turned(share * 0.3);
  if (op === "translateX" || op === "translateY") return turned(share * 0.45);
  if (op === "posterize") return increasing ? 4 - Math.trunc(share * 4) : Math.trunc(share * 4);
  if (op === "solarize") {
    const threshold = Math.min(256, Math.trunc(share * 256));
    return increasing ? 256 - threshold : threshold;
  }
  if (op === "solarizeAdd") return Math.min(128, Math.trunc(share * 110));
  return 0;
}

/** Where a crop lies in a batch, and its shape. */
export interface CropAt {
  readonly data: Uint8Array;
  readonly at: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

/** Carries out one operation in place. */
export function applyRandAugmentOp(
  op: RandAugmentOp,
  argument: number,
  { data, at, height, width, channels }: CropAt,
  { interpolation, fill }: Pick<RandAugment, "interpolation" | "fill">,
): void {
  const plane = height * width;
  const work = (change: (canvas: Canvas, argument: number) => void) =>
    onCanvas(data, at, height, width, channels, (canvas) => change(canvas, argument));
  const transform = (matrix: AffineMatrix) => affine(data, at, height, width, channels, matrix, interpolation, fill);
  if (op === "autoContrast") autoContrast(data, at, plane, channels);
  else if (op === "equalize") equalise(data, at, plane, channels);
  else if (op === "invert") invert(data, at, plane, channels);
  else if (op === "posterize") posterise(data, at, plane, channels, argument);
  else if (op === "solarize") work(solarise);
  else if (op === "solarizeAdd") solariseAdd(data, at, plane, channels, argument);
  else if (op === "color") work(saturation);
  else if (op === "contrast") work(contrast);
  else if (op === "brightness") work(brightness);
  else if (op === "sharpness") sharpness(data, at, height, width, channels, argument);
  else if (op === "shearX") transform([1, argument, 0, 0, 1, 0]);
  else if (op === "shearY") transform([1, 0, 0, argument, 1, 0]);
  else if (op === "translateX") transform([1, 0, argument * width, 0, 1, 0]);
  else if (op === "translateY") transform([1, 0, 0, 0, 1, argument * height]);
  else if (argument !== 0) transform(rotation(argument, height, width));
}

/** Draws and carries out a transform's operations on one crop. */
export function randAugmentCrop(transform: RandAugment, rng: Rng, crop: CropAt): void {
  const { layers, p, magnitude, std, increasing } = transform;
  const chosen = Array.from({ length: layers }, () => randAugmentOps[rng.intBelow(randAugmentOps.length)]!);
  for (const op of chosen) {
    if (!rng.chance(p)) continue;
    const strength = Math.min(FULL, Math.max(0, std > 0 ? rng.normal(magnitude, std) : magnitude));
    const negative = (signed.has(op) || (enhancing.has(op) && increasing)) && rng.chance(0.5);
    applyRandAugmentOp(op, randAugmentArgument(op, strength, increasing, negative), crop, transform);
  }
}
