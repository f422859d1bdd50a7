// Regularisation by leaving out: single elements, or whole residual branches.
import { dropout, empty, type Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** Zeroes elements with probability p while training. */
export class Dropout extends Module {
  constructor(readonly p: number) {
    super();
  }
  forward(x: Tensor): Tensor {
    return this.p > 0 && this.training ? dropout(x, this.p, true) : x.alias();
  }
}

/** Stochastic depth: drops the whole branch of a sample with probability p while training and scales the others by 1 / (1 - p). */
export class DropPath extends Module {
  constructor(readonly p: number) {
    super();
  }
  /** x [B, ...] */
  forward(x: Tensor): Tensor {
    const factors = this.factors(x);
    return factors ? x.mul(factors.to(x.dtype).view([-1, ...x.shape.slice(1).map(() => 1)])) : x.alias();
  }

  /** What each sample's branch is multiplied with, [B] in float32; null where that is 1. */
  factors(x: Tensor): Tensor | null {
    if (this.p === 0 || !this.training) return null;
    const kept = 1 - this.p;
    const mask = empty([x.size(0)], { device: x.device }).bernoulli_(kept);
    return kept > 0 ? mask.div_(kept) : mask;
  }
}
