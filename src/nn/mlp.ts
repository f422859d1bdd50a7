// The two-layer perceptron of a transformer block.
import { type Branch, biasGelu, type Tensor, tidy } from "../torch/index.js";
import { Dropout } from "./dropout.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

/** fc1, GELU, fc2; timm's names. */
export class Mlp extends Module {
  fc1: Linear;
  fc2: Linear;
  drop: Dropout;

  constructor(features: number, hidden: number, { out = features, drop = 0 }: { out?: number; drop?: number } = {}) {
    super();
    this.fc1 = new Linear(features, hidden);
    this.fc2 = new Linear(hidden, out);
    this.drop = new Dropout(drop);
  }

  forward(x: Tensor): Tensor {
    return tidy(() => {
      const hidden = this.fc1.product(x);
      if (this.drop.p === 0) return this.fc2.forwardOfGelu(hidden);
      return this.drop.call(this.fc2.call(this.drop.call(biasGelu(hidden.x, hidden.bias))));
    });
  }

  /** As forward, with the last bias left to the residual sum where that saves a pass. */
  branch(x: Tensor): Branch {
    return tidy(() => (this.drop.p > 0 ? { x: this.forward(x) } : this.fc2.productOfGelu(this.fc1.product(x))));
  }
}
