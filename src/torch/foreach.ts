// Operators over whole lists of tensors in one call: what optimisers, clipping and EMA are made of.
import { aten } from "./aten.js";
import type { Tensor } from "./tensor.js";

type Tensors = readonly Tensor[];

export const foreach = {
  add_: (self: Tensors, other: Tensors, alpha = 1): void => aten.foreachAdd_(self, other, alpha),
  addScalar_: (self: Tensors, value: number): void => aten.foreachAddScalar_(self, value),
  mul_: (self: Tensors, value: number): void => aten.foreachMulScalar_(self, value),
  mulEach_: (self: Tensors, values: readonly number[]): void => aten.foreachMulScalarList_(self, values),
  mulTensors_: (self: Tensors, other: Tensors): void => aten.foreachMulList_(self, other),
  div_: (self: Tensors, value: number): void => aten.foreachDivScalar_(self, value),
  addcmul_: (self: Tensors, a: Tensors, b: Tensors, value: number): void => aten.foreachAddcmul_(self, a, b, value),
  addcdiv_: (self: Tensors, a: Tensors, b: Tensors, values: readonly number[]): void => aten.foreachAddcdiv_(self, a, b, values),
  sqrt: (self: Tensors): Tensor[] => aten.foreachSqrt(self),
  /** p-norm of each tensor, as zero-dimensional tensors. */
  norm: (self: Tensors, p = 2): Tensor[] => aten.foreachNorm(self, p),
  zero_: (self: Tensors): void => aten.foreachZero_(self),
  copy_: (self: Tensors, source: Tensors): void => {
    if (aten.foreachCopy_.available) aten.foreachCopy_(self, source);
    else for (const [i, each] of self.entries()) each.copy_(source[i]!);
  },
  /** self + weight (end - self), in place. */
  lerp_: (self: Tensors, end: Tensors, weight: number): void => {
    if (self.length === 0) return;
    if (aten.foreachLerp_.available) aten.foreachLerp_(self, end, weight);
    // One pass for each tensor; scaling and adding would take two and drift by rounding where both are equal.
    else for (const [i, each] of self.entries()) each.lerp_(end[i]!, weight);
  },
};

/** AdamW's fused step, where this libtorch has it (2.x). */
export const fusedAdamW = {
  get available(): boolean {
    return aten.fusedAdamW_.available;
  },
  step(
    parameters: Tensors,
    gradients: Tensors,
    expAvg: Tensors,
    expAvgSq: Tensors,
    steps: Tensors,
    options: { lr: number; beta1: number; beta2: number; weightDecay: number; eps: number },
  ): void {
    const { lr, beta1, beta2, weightDecay, eps } = options;
    aten.fusedAdamW_(parameters, gradients, expAvg, expAvgSq, [], steps, lr, beta1, beta2, weightDecay, eps, false, false);
  },
};
