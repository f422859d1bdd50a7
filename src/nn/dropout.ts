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
    if (this.p === 0 || !this.training) return x.alias();
    const kept = 1 - this.p;
    const [batch = 1, ...rest] = x.shape;
    const mask = empty([batch, ...rest.map(() => 1)], { dtype: x.dtype, device: x.device }).bernoulli_(kept);
    return x.mul(kept > 0 ? mask.div_(kept) : mask);
  }
}
