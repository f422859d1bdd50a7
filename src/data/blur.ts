// Gaussian blur of planar 8-bit crops. PIL's GaussianBlur(radius) approximates a Gaussian of standard deviation `radius` by three box
// blurs; this is the Gaussian itself (cut at three standard deviations, edge pixels repeated as PIL does), separable, in fixed point
// with 16 bits kept between the two passes.

import { kernels, region, scratch } from "./kernels.js";

const WEIGHT_BITS = 15;
let weights = new Int32Array(0);

/** Half of the symmetric kernel in units of 2^-15, summing to exactly 2^15 with its mirror image. Returns the radius. */
function kernel(sigma: number): number {
  const radius = Math.max(1, Math.ceil(3 * sigma));
  if (weights.length <= radius) weights = new Int32Array(radius + 1);
  let sum = 0;
  for (let k = -radius; k <= radius; k++) sum += Math.exp((-k * k) / (2 * sigma * sigma));
  let rest = 1 << WEIGHT_BITS;
  for (let k = radius; k > 0; k--) {
    weights[k] = Math.round((Math.exp((-k * k) / (2 * sigma * sigma)) / sum) * (1 << WEIGHT_BITS));
    rest -= 2 * weights[k]!;
  }
  weights[0] = rest;
  let used = radius;
  while (used > 0 && weights[used] === 0) used--;
  return used;
}

/** Blurs `channels` planes of height x width at `at`, in place. `sigma` is in pixels. */
export function gaussianBlur(data: Uint8Array, at: number, height: number, width: number, channels: number, sigma: number): void {
  const radius = kernel(sigma);
  if (radius === 0) return;
  // The kernels' memory: weights, the plane with its edge pixels repeated left and right, the rows after the first pass (16 bits)
  // with the edge rows repeated above and below, the result.
  const wide = width + 2 * radius;
  const pitch = region(2 * width);
  const padded = region(4 * (radius + 1));
  const between = padded + region(height * wide);
  const result = between + pitch * (height + 2 * radius);
  const { bytes, ints } = scratch(result + region(height * width));
  for (let k = 0; k <= radius; k++) ints[k] = weights[k]!;
  const middle = between + radius * pitch;
  for (let c = 0; c < channels; c++) {
    const plane = at + c * height * width;
    for (let y = 0; y < height; y++) {
      const from = plane + y * width;
      const to = padded + y * wide;
      for (let x = 0; x < radius; x++) {
        bytes[to + x] = data[from]!;
        bytes[to + radius + width + x] = data[from + width - 1]!;
      }
      if (width > 64) bytes.set(data.subarray(from, from + width), to + radius);
      else for (let x = 0; x < width; x++) bytes[to + radius + x] = data[from + x]!;
    }
    kernels.blurRows(padded + radius, wide, 1, radius, 0, width, height, middle, pitch);
    const last = middle + (height - 1) * pitch;
    for (let k = 1; k <= radius; k++) {
      bytes.copyWithin(middle - k * pitch, middle, middle + pitch);
      bytes.copyWithin(last + k * pitch, last, last + pitch);
    }
    kernels.blurColumns(middle, pitch, pitch, radius, 0, width, height, result, width);
    data.set(bytes.subarray(result, result + height * width), plane);
  }
}
