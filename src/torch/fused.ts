// Several operators in one pass over memory (native/fused.cpp, native/attention.cpp): a residual sum with the layer norm after it, a bias with
// GELU, attention. They are taken where they can be, on the CPU in float32 and bfloat16; elsewhere, and when turned off, what they stand for.
import { aten } from "./aten.js";
import { autocastDType } from "./autocast.js";
import { gelu, layerNorm } from "./functional.js";
import { usesFused } from "./fused-switch.js";
import type { Tensor } from "./tensor.js";

const isValue = (x: Tensor) => x.device === "cpu" && (x.dtype === "float32" || x.dtype === "bfloat16");
const isFloat = (x: Tensor | null | undefined) => !x || (x.device === "cpu" && x.dtype === "float32");

/** gelu(x + bias); x [..., C], bias [C]. */
export function biasGelu(x: Tensor, bias: Tensor | null): Tensor {
  if (usesFused() && isValue(x) && isFloat(bias)) return aten.biasGelu(x, bias);
  return gelu(bias ? x.add(bias.to(x.dtype)) : x);
}

/** The weight and bias of a layer norm over the last dimension [C], and what is added to the variance. */
export interface NormOf {
  weight: Tensor;
  bias: Tensor;
  eps: number;
}

/** What is added to a residual stream: keep * gamma * (x + bias). */
export interface Branch {
  /** [B, ..., C] */
  x: Tensor;
  /** [C] */
  bias?: Tensor | null | undefined;
  /** [C] */
  gamma?: Tensor | null | undefined;
  /** One factor for each sample, [B]. */
  keep?: Tensor | null | undefined;
}

function fits(x: Tensor, { weight, bias }: NormOf): boolean {
  return usesFused() && x.device === "cpu" && x.dtype === "float32" && isFloat(weight) && isFloat(bias);
}

/** Layer norm over the last dimension for a matrix product to read: under autocast the result is rounded as the product would round it. */
export function normFor(x: Tensor, norm: NormOf): Tensor {
  if (fits(x, norm)) return aten.fusedNorm(x, norm.weight, norm.bias, norm.eps, autocastDType() === "bfloat16");
  return layerNorm(x, [norm.weight.size(0)], norm.weight, norm.bias, norm.eps);
}

/** A branch added to x [B, ..., C]. */
export function addBranch(x: Tensor, { x: value, bias, gamma, keep }: Branch): Tensor {
  let scaled = bias ? value.add(bias.to(value.dtype)) : value;
  if (gamma) scaled = scaled.mul(gamma);
  if (keep) scaled = scaled.mul(keep.view([-1, ...Array.from({ length: value.ndim - 1 }, () => 1)]));
  return x.add(scaled);
}

/** addBranch and, of the sum, normFor. */
export function addNorm(x: Tensor, branch: Branch, norm: NormOf): { sum: Tensor; normed: Tensor } {
  const { x: value, bias, gamma, keep } = branch;
  if (fits(x, norm) && isValue(value) && isFloat(bias) && isFloat(gamma) && isFloat(keep)) {
    const [sum, normed] = aten.addNorm(
      x,
      value,
      bias ?? null,
      gamma ?? null,
      keep ?? null,
      norm.weight,
      norm.bias,
      norm.eps,
      autocastDType() === "bfloat16",
    );
    return { sum, normed };
  }
  const sum = addBranch(x, branch);
  return { sum, normed: normFor(sum, norm) };
}

export interface JointAttention {
  heads: number;
  /** What q k^T is multiplied with. */
  scale: number;
  /** Added to q, k and v, [3 C]. */
  bias: Tensor | null;
  /** Added to the scores, [1 or B, 1 or heads, N, N]; without a gradient. */
  mask?: Tensor | undefined;
}

/**
 * Whether attention over a product x W^T in this dtype can be one operator, whose weights are never in memory: in bfloat16 on a CPU with AMX, and
 * where no gradient of the mask is wanted.
 */
export function attendsJointly(x: Tensor, mask: Tensor | undefined): boolean {
  if (!usesFused() || x.device !== "cpu" || (autocastDType() ?? x.dtype) !== "bfloat16" || !aten.attention.available)
    return false;
  if (!mask) return true;
  const [, , queries, keys] = mask.shape;
  return mask.ndim === 4 && isFloat(mask) && !mask.requiresGrad && queries === x.size(1) && keys === x.size(1);
}

/** softmax(q k^T scale + mask) v of every head; qkv [B, N, 3 C] -> [B, N, C]. Ask attendsJointly first. */
export function jointAttention(qkv: Tensor, { heads, scale, bias, mask }: JointAttention): Tensor {
  return aten.attention(qkv, bias, mask ?? null, heads, scale);
}
