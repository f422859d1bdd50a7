// Activations as modules, for Sequential.
import { gelu, type Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** x Phi(x) with the exact normal distribution function, as ViTs use it. */
export class GELU extends Module {
  forward(x: Tensor): Tensor {
    return gelu(x);
  }
}

export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return x.relu();
  }
}

export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x.alias();
  }
}
