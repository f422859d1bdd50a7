// Gaussian blur of planar 8-bit crops. PIL's GaussianBlur(radius) approximates a Gaussian of standard deviation `radius` by three box
// blurs; this is the Gaussian itself (cut at three standard deviations, edge pixels repeated as PIL does), separable, in fixed point
// with 16 bits kept between the two passes.

import type { Canvas } from "./canvas.js";
import { BLUR_WEIGHT_BITS } from "./filter-kernels.js";
import { kernels, memoryFrom, region } from "./kernels.js";

let weights = new Int16Array(0);

/** Half of the symmetric kernel in units of 2^-15, summing to exactly 2^15 with its mirror image. Returns the radius. */
function kernel(sigma: number): number {
  const radius = Math.max(1, Math.ceil(3 * sigma));
  if (weights.length <= radius) weights = new Int16Array(radius + 1);
  const one = 1 << BLUR_WEIGHT_BITS;
  let sum = 0;
  for (let k = -radius; k <= radius; k++) sum += Math.exp((-k * k) / (2 * sigma * sigma));
  let rest = one;
  for (let k = radius; k > 0; k--) {
    const weight = Math.round((Math.exp((-k * k) / (2 * sigma * sigma)) / sum) * one);
    weights[k] = weight;
    rest -= 2 * weight;
  }
  let used = radius;
  while (used > 0 && weights[used] === 0) used--;
  // With a neighbour that counts, the middle's weight is below 2^15 and fits.
  if (used > 0) weights[0] = rest;
  return used;
}

/** Blurs a canvas in place. `sigma` is in pixels. */
export function gaussianBlur({ channels, height, width, address, step, end }: Canvas, sigma: number): void {
  const radius = kernel(sigma);
  if (radius === 0) return;
  // Behind the canvas: weights in twos, the plane with its edge pixels repeated left and right, the rows after the first pass (16 bits)
  // with the edge rows repeated above and below.
  const wide = width + 2 * radius;
  const pitch = region(2 * width);
  const padded = end + region(4 * (radius + 1));
  const between = padded + region(height * wide);
  const { bytes, words } = memoryFrom(between, pitch * (height + 2 * radius));
  for (let k = 0; k <= radius; k++) words.fill(weights[k]!, (end >> 1) + 2 * k, (end >> 1) + 2 * k + 2);
  const middle = between + radius * pitch;
  const last = middle + (height - 1) * pitch;
  for (let c = 0; c < channels; c++) {
    const plane = address + c * step;
    kernels.padRows(plane, width, height, radius, padded, wide);
    kernels.blurRows(padded + radius, wide, 1, radius, end, width, height, middle, pitch);
    for (let k = 1; k <= radius; k++) {
      bytes.copyWithin(middle - k * pitch, middle, middle + pitch);
      bytes.copyWithin(last + k * pitch, last, last + pitch);
    }
    kernels.blurColumns(middle, pitch, pitch, radius, end, width, height, plane, width);
  }
}
