// The functions of torch.nn.functional that the layers are made of. Shapes as in PyTorch: images are [N, C, H, W].
import { aten } from "./aten.js";
import { autocast, autocastDType } from "./autocast.js";
import { ArgumentError } from "./errors.js";
import { widensHalves } from "./fused-switch.js";
import { trainsInHalf } from "./half-linear.js";
import { libtorch } from "./native.js";
import { tidy } from "./scope.js";
import type { Tensor } from "./tensor.js";

type Pair = number | readonly [number, number];
const pair = (value: Pair): readonly [number, number] => (typeof value === "number" ? [value, value] : value);

/** x weight^T + bias; weight [out, in]. */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  if (trainsInHalf(x, weight, bias)) return tidy(() => aten.halfLinear(x.to("bfloat16"), weight, bias));
  return aten.linear(x, weight, bias);
}

/** Whether norms take half-precision values with float32 weights, which autocast leads to where a half-precision result is normed. */
const mixedNorms = !libtorch.version.startsWith("1.");

/** Normalises the last dimensions to mean 0 and variance 1, then scales and shifts. Of the dtype of x, which may be half precision. */
export function layerNorm(
  x: Tensor,
  shape: readonly number[],
  weight: Tensor | null = null,
  bias: Tensor | null = null,
  eps = 1e-5,
): Tensor {
  if (!mixedNorms && weight?.dtype === "float32" && (x.dtype === "bfloat16" || x.dtype === "float16")) {
    return tidy(() => aten.layerNorm(x.float(), shape, weight, bias, eps, false).to(x.dtype));
  }
  return aten.layerNorm(x, shape, weight, bias, eps, false);
}

export interface BatchNormOptions {
  weight?: Tensor | null;
  bias?: Tensor | null;
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
  training?: boolean;
  momentum?: number;
  eps?: number;
}

/** Normalises each channel over the batch (and positions): x [N, C, ...]. */
export function batchNorm(x: Tensor, options: BatchNormOptions): Tensor {
  const {
    weight = null,
    bias = null,
    runningMean = null,
    runningVar = null,
    training = false,
    momentum = 0.1,
    eps = 1e-5,
  } = options;
  return aten.batchNorm(x, weight, bias, runningMean, runningVar, training, momentum, eps, false);
}

/** x Phi(x); `tanh` is the approximation. */
export function gelu(x: Tensor, { approximate = "none" }: { approximate?: "none" | "tanh" } = {}): Tensor {
  return aten.gelu(x, approximate);
}

/** Zeroes elements with probability p while training and scales the others by 1 / (1 - p). */
export function dropout(x: Tensor, p: number, training: boolean): Tensor {
  return aten.dropout(x, p, training);
}

export interface ConvOptions {
  bias?: Tensor | null;
  stride?: Pair;
  padding?: Pair;
  dilation?: Pair;
  groups?: number;
}

/** In float32 also under autocast where libtorch multiplies bfloat16 number by number: of its products only matrices' are replaced there. */
function convolve(x: Tensor, run: (x: Tensor) => Tensor): Tensor {
  if (x.device !== "cpu" || autocastDType() !== "bfloat16" || !widensHalves()) return run(x);
  return autocast({ enabled: false }, () => tidy(() => run(x.float()).to("bfloat16")));
}

/** weight [out, in / groups, kH, kW]. */
export function conv2d(x: Tensor, weight: Tensor, options: ConvOptions = {}): Tensor {
  const { bias = null, stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  return convolve(x, (of) => aten.conv2d(of, weight, bias, pair(stride), pair(padding), pair(dilation), groups));
}

/** weight [in, out / groups, kH, kW]. */
export function convTranspose2d(x: Tensor, weight: Tensor, options: ConvOptions & { outputPadding?: Pair } = {}): Tensor {
  const { bias = null, stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
  return convolve(x, (of) =>
    aten.convTranspose2d(of, weight, bias, pair(stride), pair(padding), pair(outputPadding), groups, pair(dilation)),
  );
}

export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  { stride = kernelSize, padding = 0 }: { stride?: Pair; padding?: Pair } = {},
): Tensor {
  return aten.maxPool2d(x, pair(kernelSize), pair(stride), pair(padding));
}

export interface InterpolateOptions {
  /** Target [height, width]; or give scaleFactor. */
  size?: readonly [number, number];
  /** Factors [height, width]. The sampling grid uses them as they are, which differs from `size` when they do not divide evenly. */
  scaleFactor?: readonly [number, number];
  mode?: "nearest" | "bilinear" | "bicubic";
  alignCorners?: boolean;
  antialias?: boolean;
}

/** Resizes images [N, C, H, W]. */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const { size = null, scaleFactor = null, mode = "nearest", alignCorners = false, antialias = false } = options;
  if ((size === null) === (scaleFactor === null)) throw new ArgumentError("interpolate expects either size or scaleFactor");
  if (mode === "nearest") return aten.interpolateNearest(x, size, scaleFactor);
  if (mode === "bilinear") {
    return (antialias ? aten.interpolateBilinearAa : aten.interpolateBilinear)(x, size, alignCorners, scaleFactor);
  }
  return (antialias ? aten.interpolateBicubicAa : aten.interpolateBicubic)(x, size, alignCorners, scaleFactor);
}

/** x / max(||x||_p, eps) along `dim`. */
export function normalize(x: Tensor, { p = 2, dim = -1, eps = 1e-12 } = {}): Tensor {
  return x.div(x.norm({ p, dim, keepdim: true }).clamp({ min: eps }));
}

/** float16 and bfloat16 as float32, wider ones as they are: for sums and logarithms that half precision would spoil. */
export function atLeastFloat32(x: Tensor): Tensor {
  return x.dtype === "float16" || x.dtype === "bfloat16" ? x.float() : x;
}

export interface CrossEntropyOptions {
  reduction?: "none" | "mean" | "sum";
  ignoreIndex?: number;
  labelSmoothing?: number;
  weight?: Tensor | null;
}

const reductions = { none: 0, mean: 1, sum: 2 } as const;

/** -log softmax at the target; targets are class indices [N] (int64) or probabilities of the logits' shape. */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { reduction = "mean", ignoreIndex = -100, labelSmoothing = 0, weight = null } = options;
  return aten.crossEntropy(logits, target, weight, reductions[reduction], ignoreIndex, labelSmoothing);
}

type Reduction = { reduction?: "none" | "mean" | "sum" };

export function mseLoss(input: Tensor, target: Tensor, { reduction = "mean" }: Reduction = {}): Tensor {
  return aten.mseLoss(input, target, reductions[reduction]);
}
export function l1Loss(input: Tensor, target: Tensor, { reduction = "mean" }: Reduction = {}): Tensor {
  return aten.l1Loss(input, target, reductions[reduction]);
}
/** Quadratic below beta, linear above. */
export function smoothL1Loss(
  input: Tensor,
  target: Tensor,
  { reduction = "mean", beta = 1 }: Reduction & { beta?: number } = {},
): Tensor {
  return aten.smoothL1Loss(input, target, reductions[reduction], beta);
}

/** Fills with a value around the last dimensions: `sizes` has how much before and after the last one, then the one before it, and so on. */
export function pad(x: Tensor, sizes: readonly number[], value = 0): Tensor {
  return aten.constantPad(x, sizes, value);
}

/** [N, C r^2, H, W] -> [N, C, H r, W r] */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  return aten.pixelShuffle(x, factor);
}

/** True where this libtorch has the fused attention operator. */
export function hasFusedAttention(): boolean {
  return aten.scaledDotProductAttention.available;
}

/** softmax(q k^T scale) v in one operator; q, k, v [N, heads, L, d]. Check hasFusedAttention() first. */
export function scaledDotProductAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { mask?: Tensor | null; scale?: number } = {},
): Tensor {
  const { mask = null, scale } = options;
  return aten.scaledDotProductAttention([q, k, v], { attn_mask: mask, ...(scale === undefined ? {} : { scale }) });
}
