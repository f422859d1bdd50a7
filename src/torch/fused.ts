// Several operators in one pass over memory (native/norm.cpp, gelu.cpp, prototypes.cpp, attention.cpp, nearest.cpp): a residual sum with the layer
// norm after it, a bias with GELU and the linear layer after them, rows of given lengths, cross-entropy with distributions, attention, the highest of
// each row. They are taken where they can be, on the CPU in float32 and bfloat16; elsewhere, and when turned off, what they stand for.
import { aten } from "./aten.js";
import { autocast, autocastDType } from "./autocast.js";
import { tensor } from "./create.js";
import { gelu, layerNorm, linear } from "./functional.js";
import { usesFused } from "./fused-switch.js";
import { trainsInHalf } from "./half-linear.js";
import { tidy } from "./scope.js";
import type { Tensor } from "./tensor.js";

const isValue = (x: Tensor) => x.device === "cpu" && (x.dtype === "float32" || x.dtype === "bfloat16");
const isFloat = (x: Tensor | null | undefined) => !x || (x.device === "cpu" && x.dtype === "float32");

/** gelu(x + bias); x [..., C], bias [C]. */
export function biasGelu(x: Tensor, bias: Tensor | null): Tensor {
  if (usesFused() && isValue(x) && isFloat(bias)) return aten.biasGelu(x, bias);
  return gelu(bias ? x.add(bias.to(x.dtype)) : x);
}

/**
 * linear(gelu(x + bias), weight, outBias); x [..., in], bias [in], weight [out, in], outBias [out]. For the backward pass x is kept, and gelu(x + bias)
 * is not.
 */
export function geluLinear(x: Tensor, bias: Tensor | null, weight: Tensor, outBias: Tensor | null): Tensor {
  if (usesFused() && isValue(x) && isFloat(bias) && takesRows(x, weight, outBias))
    return aten.geluLinear(x, bias, weight, outBias);
  return tidy(() => linear(biasGelu(x, bias), weight, outBias));
}

/** Whether the linear layer would read these rows as they are, with float32 weights. */
function takesRows(x: Tensor, weight: Tensor, bias: Tensor | null): boolean {
  if (x.dtype === "bfloat16") return trainsInHalf(x, weight, bias);
  return autocastDType() === null && weight.requiresGrad && isFloat(weight) && isFloat(bias);
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

/** Whether what a product reads is to be rounded for it. */
const rounds = () => autocastDType() === "bfloat16";

function fits(x: Tensor, { weight, bias }: NormOf): boolean {
  return usesFused() && x.device === "cpu" && x.dtype === "float32" && isFloat(weight) && isFloat(bias);
}

/** With `exact` a norm is not rounded under autocast. */
interface NormOptions {
  exact?: boolean;
}

/** Layer norm over the last dimension for a matrix product to read: under autocast the result is rounded as the product would round it. */
export function normFor(x: Tensor, norm: NormOf, { exact = false }: NormOptions = {}): Tensor {
  if (fits(x, norm)) return aten.fusedNorm(x, norm.weight, norm.bias, norm.eps, !exact && rounds());
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
export function addNorm(
  x: Tensor,
  branch: Branch,
  norm: NormOf,
  { exact = false }: NormOptions = {},
): { sum: Tensor; normed: Tensor } {
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
      !exact && rounds(),
    );
    return { sum, normed };
  }
  const sum = addBranch(x, branch);
  return { sum, normed: normFor(sum, norm, { exact }) };
}

/** Rows of v [out, in] with the lengths g [out, 1]: g v / ||v||. For a matrix product to read, as normFor. */
export function weightNorm(v: Tensor, g: Tensor): Tensor {
  if (usesFused() && [v, g].every((each) => each.device === "cpu" && each.dtype === "float32")) {
    return aten.weightNorm(v, g, rounds());
  }
  return v.mul(g.div(v.norm({ dim: 1, keepdim: true })));
}

/**
 * Cross-entropies of each view with the distributions it is paired with: -sum_t w[v][t] <P_t, log softmax(s_v / temperature)>, [V, B], in the form
 * sum_t w[v][t] (LSE(s_v) - <P_t, s_v>), for which no table of log-probabilities is needed.
 *
 * @param logits s, [V, B, K]
 * @param distributions P, [T, B, K]; without a gradient
 * @param pairs w: for each view a weight for each distribution
 */
export function pairedCrossEntropy(logits: Tensor, distributions: Tensor, pairs: number[][], temperature: number): Tensor {
  const given = distributions.detach();
  if (usesFused() && isValue(logits) && isFloat(given)) return aten.pairedCrossEntropy(logits, given, pairs.flat(), temperature);
  return autocast({ device: logits.device, enabled: false }, () => {
    const s = (logits.dtype === "float64" ? logits : logits.float()).div(temperature);
    const weights = tensor(pairs, { dtype: s.dtype, device: s.device });
    const products = s.permute([1, 0, 2]).matmul(given.to(s.dtype).permute([1, 2, 0]));
    return s
      .logsumexp(-1)
      .mul(weights.sum(1, { keepdim: true }))
      .sub(products.mul(weights).sum(-1).t());
  });
}

interface HowToAttend {
  heads: number;
  /** What q k^T is multiplied with. */
  scale: number;
  /** Added to the scores, [1 or B, 1 or heads, n, N] or [1 or heads, n, N]; without a gradient. */
  mask?: Tensor | undefined;
}

/**
 * Whether attention over products x W^T of these tokens, [B, n, C] and [B, N, C], can be one operator whose weights are never in memory: in float32
 * on a CPU with AVX2 or AVX-512, in bfloat16 on one for which there is a micro-kernel (AMX, AVX-512 with bfloat16, or ours with AVX2), and where
 * no gradient of the mask is wanted.
 */
export function fusesAttention(queries: Tensor, keys: Tensor, mask: Tensor | undefined): boolean {
  const dtypes = [queries, keys].map((x) => autocastDType() ?? x.dtype);
  const here = [queries, keys].every((x) => x.device === "cpu") && dtypes[0] === dtypes[1];
  // A linear layer of the addon is there where bfloat16 has a micro-kernel.
  const fast = dtypes[0] === "float32" || (dtypes[0] === "bfloat16" && aten.halfLinear.available);
  if (!usesFused() || !here || !fast || !aten.attention.available) return false;
  if (!mask) return true;
  const whole = mask.ndim >= 3 && mask.size(-2) === queries.size(1) && mask.size(-1) === keys.size(1);
  return whole && isFloat(mask) && !mask.requiresGrad;
}

/** Of a model that is in bfloat16 throughout. */
const widened = (bias: Tensor | null) => (bias && bias.dtype !== "float32" ? bias.float() : bias);
const ofSamples = (mask: Tensor | undefined) => (mask?.ndim === 3 ? mask.unsqueeze(0) : mask) ?? null;

/**
 * softmax(q k^T scale + mask) v of every head, all of one product: qkv [B, N, 3 C] -> [B, N, C]. `bias` [3 C] is added to q, k and v. Ask
 * fusesAttention first.
 */
export function jointAttention(qkv: Tensor, { heads, scale, bias, mask }: HowToAttend & { bias: Tensor | null }): Tensor {
  return aten.attention(qkv, widened(bias), ofSamples(mask), heads, scale);
}

/**
 * As jointAttention, of three products: q [B, n, C], k and v [B, N, C] -> [B, n, C]. Biases [C] are those of q and v, because one of k changes no
 * softmax.
 */
export function crossAttention(
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  { heads, scale, qBias, vBias, mask }: HowToAttend & { qBias: Tensor | null; vBias: Tensor | null },
): Tensor {
  return aten.crossAttention(q, k, v, widened(qBias), widened(vBias), ofSamples(mask), heads, scale);
}

/** Whether keepHighest is there for tensors on this device. */
export function fusesHighest(device: string): boolean {
  return usesFused() && device === "cpu";
}

/**
 * Takes rows of values [n, c] into the k highest so far of each row, in place. Those are keys, int64 [n, k], contiguous and in no order: the value's
 * bits in the upper half, in an order that integers have too, and 2^32 - 1 - place in the lower. The values' places are `first` and those after it; NaN is left out.
 * Ask fusesHighest first.
 */
export function keepHighest(keys: Tensor, values: Tensor, first: number): void {
  aten.keepHighest(keys, values, first);
}
