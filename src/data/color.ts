// Pixel operations on planar 8-bit crops, in place, with the arithmetic of PIL's ImageEnhance, ImageOps and HSV conversion, which
// is what torchvision runs on images that come from files. `plane` is the number of pixels; three channels lie one after another.
import { kernels, region, scratch } from "./kernels.js";
import { luma } from "./pixels.js";

/** PIL's Image.blend with one value: float32, cut (not rounded) to 8 bits. */
function blend(data: Uint8Array, at: number, length: number, value: number, factor: number): void {
  const { bytes } = scratch(region(length));
  bytes.set(data.subarray(at, at + length));
  kernels.blendWithValue(0, length, value, factor);
  data.set(bytes.subarray(0, length), at);
}

/** Blends with black. */
export function brightness(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  blend(data, at, plane * channels, 0, factor);
}

/** Blends with the mean of the grey image, rounded. */
export function contrast(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  let sum = 0;
  if (channels === 1) {
    for (let i = at; i < at + plane; i++) sum += data[i]!;
  } else {
    for (let i = at; i < at + plane; i++) sum += luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!);
  }
  const mean = Math.floor(sum / plane + 0.5);
  blend(data, at, plane * channels, mean, factor);
}

/** Blends each pixel with its grey value; nothing to do for grey images. */
export function saturation(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  if (channels === 1) return;
  inPlanes(data, at, plane, (step) => kernels.blendWithLuma(0, step, 2 * step, plane, factor));
}

/** Turns the hue by `factor` of a full turn (-0.5..0.5), in PIL's 8-bit HSV; nothing to do for grey images. */
export function hue(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  if (channels === 1) return;
  inPlanes(data, at, plane, (step) => kernels.turnHue(0, step, 2 * step, plane, Math.trunc(factor * 255) & 255));
}

/** Runs a kernel on three planes, `step` bytes apart in the kernels' memory. */
function inPlanes(data: Uint8Array, at: number, plane: number, run: (step: number) => void): void {
  const step = region(plane);
  const { bytes } = scratch(3 * step);
  for (let c = 0; c < 3; c++) bytes.set(data.subarray(at + c * plane, at + (c + 1) * plane), c * step);
  run(step);
  for (let c = 0; c < 3; c++) data.set(bytes.subarray(c * step, c * step + plane), at + c * plane);
}

/** All three channels become the grey value. */
export function greyscale(data: Uint8Array, at: number, plane: number, channels: number): void {
  if (channels === 1) return;
  for (let i = at; i < at + plane; i++) {
    const grey = luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!);
    data[i] = grey;
    data[i + plane] = grey;
    data[i + 2 * plane] = grey;
  }
}

/** Values from `threshold` up are inverted. */
export function solarise(data: Uint8Array, at: number, plane: number, channels: number, threshold: number): void {
  const end = at + plane * channels;
  for (let i = at; i < end; i++) if (data[i]! >= threshold) data[i] = 255 - data[i]!;
}
