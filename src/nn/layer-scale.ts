// A learned factor for each channel of a residual branch.
import { full, type Tensor } from "../torch/index.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

/** x * gamma; gamma [C] starts at `init`. */
export class LayerScale extends Module {
  gamma: Tensor;

  constructor(features: number, init: number) {
    super();
    this.gamma = parameter(full([features], init));
  }

  forward(x: Tensor): Tensor {
    return x.mul(this.gamma);
  }
}
