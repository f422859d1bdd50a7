// Pixel operations on a canvas, in place, with the arithmetic of PIL's ImageEnhance, ImageOps and HSV conversion, which is what
// torchvision runs on images that come from files.
import type { Canvas } from "./canvas.js";
import { kernels, memoryFrom } from "./kernels.js";
import { luma } from "./pixels.js";

/** From here on every difference of at least one level ends at black or white; the kernels' rounding needs values below 2^22. */
const LARGEST_FACTOR = 4096;

/** Blends with black. */
export function brightness({ address, channels, step }: Canvas, factor: number): void {
  kernels.blendWithValue(address, channels * step, 0, Math.min(factor, LARGEST_FACTOR));
}

/** Blends with the mean of the grey image, rounded. */
export function contrast(canvas: Canvas, factor: number): void {
  const { address, channels, step, plane } = canvas;
  const mean = Math.floor(lumaSum(canvas) / plane + 0.5);
  kernels.blendWithValue(address, channels * step, mean, Math.min(factor, LARGEST_FACTOR));
}

function lumaSum({ address, channels, step, plane, end }: Canvas): number {
  const { bytes, ints } = memoryFrom(end, 16);
  let sum = 0;
  if (channels === 1) {
    for (let i = address; i < address + plane; i++) sum += bytes[i]!;
    return sum;
  }
  const most = plane & ~7;
  kernels.sumLuma(address, address + step, address + 2 * step, most, end);
  for (let lane = 0; lane < 4; lane++) sum += ints[(end >> 2) + lane]!;
  for (let i = address + most; i < address + plane; i++) sum += luma(bytes[i]!, bytes[i + step]!, bytes[i + 2 * step]!);
  return sum;
}

/** Blends each pixel with its grey value; nothing to do for grey images. */
export function saturation({ address, channels, step, plane }: Canvas, factor: number): void {
  if (channels === 1) return;
  kernels.blendWithLuma(address, address + step, address + 2 * step, plane, Math.min(factor, LARGEST_FACTOR));
}

/** Turns the hue by `factor` of a full turn (-0.5..0.5), in PIL's 8-bit HSV; nothing to do for grey images. */
export function hue({ address, channels, step, plane }: Canvas, factor: number): void {
  if (channels === 1) return;
  kernels.turnHue(address, address + step, address + 2 * step, plane, Math.trunc(factor * 255) & 255);
}

/** All three channels become the grey value. */
export function greyscale({ address, channels, step, plane }: Canvas): void {
  if (channels === 1) return;
  kernels.toLuma(address, address + step, address + 2 * step, plane);
}

/** Values from `threshold` up are inverted. */
export function solarise({ address, channels, step }: Canvas, threshold: number): void {
  kernels.solarize(address, channels * step, threshold);
}
