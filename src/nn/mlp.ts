// The two-layer perceptron of a transformer block.
import type { Tensor } from "../torch/index.js";
import { GELU } from "./activation.js";
import { Dropout } from "./dropout.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

/** fc1, GELU, fc2; timm's names. */
export class Mlp extends Module {
  fc1: Linear;
  act = new GELU();
  fc2: Linear;
  drop: Dropout;

  constructor(features: number, hidden: number, { out = features, drop = 0 }: { out?: number; drop?: number } = {}) {
    super();
    this.fc1 = new Linear(features, hidden);
    this.fc2 = new Linear(hidden, out);
    this.drop = new Dropout(drop);
  }

  forward(x: Tensor): Tensor {
    const hidden = this.drop.call(this.act.call(this.fc1.call(x)));
    return this.drop.call(this.fc2.call(hidden));
  }
}
