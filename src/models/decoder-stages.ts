// What convolutional decoders are made of: stages of convolution, batch norm and ReLU, on one grid or from one to a finer one.
import { BatchNorm2d, Conv2d, ConvTranspose2d, type Module, ReLU } from "../nn/index.js";

export function primeFactors(n: number): number[] {
  const factors: number[] = [];
  for (let p = 2; n > 1; p++) for (; n % p === 0; n /= p) factors.push(p);
  return factors;
}

const normed = (convolution: Module, out: number, batchNorm: boolean): Module[] => [
  convolution,
  ...(batchNorm ? [new BatchNorm2d(out)] : []),
  new ReLU(),
];

/** A 3x3 convolution on the grid. */
export function convStage(from: number, to: number, batchNorm: boolean): Module[] {
  return normed(new Conv2d(from, to, 3, { padding: 1, bias: !batchNorm }), to, batchNorm);
}

/** A transposed convolution to a grid that is `factor` times finer. */
export function upStage(from: number, to: number, factor: number, batchNorm: boolean): Module[] {
  // Kernel 4 for a factor of 2 overlaps its neighbours, which keeps the checkerboard away; other factors use their own size.
  const [kernel, padding] = factor === 2 ? [4, 1] : [factor, 0];
  return normed(new ConvTranspose2d(from, to, kernel, { stride: factor, padding, bias: !batchNorm }), to, batchNorm);
}
