// Fully connected layers.
import { empty, geluLinear, linear, ones, type Tensor, usesFused, weightNorm } from "../torch/index.js";
import { kaimingUniform_, uniform_ } from "./init.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

/** What a linear layer gives, and a bias [out] that is still to be added to it. */
export interface Product {
  /** [..., out] */
  x: Tensor;
  bias: Tensor | null;
}

/** x weight^T + bias. weight [out, in], bias [out]. torch's default initialisation. */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true }: { bias?: boolean } = {},
  ) {
    super();
    const bound = 1 / Math.sqrt(inFeatures);
    this.weight = parameter(kaimingUniform_(empty([outFeatures, inFeatures])));
    this.bias = bias ? parameter(uniform_(empty([outFeatures]), -bound, bound)) : null;
  }

  /** x [..., in] -> [..., out] */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }

  /** As forward, with the bias left to whoever reads the result, where that saves a pass over it. */
  product(x: Tensor): Product {
    const [now, later] = this.#biases(x);
    return { x: linear(x, this.weight, now), bias: later };
  }

  /** forward of gelu(x + bias), which is not kept for the backward pass where it can be computed again. */
  forwardOfGelu({ x, bias }: Product): Tensor {
    return geluLinear(x, bias, this.weight, this.bias);
  }

  /** As forwardOfGelu and as product. */
  productOfGelu({ x, bias }: Product): Product {
    const [now, later] = this.#biases(x);
    return { x: geluLinear(x, bias, this.weight, now), bias: later };
  }

  /** The bias to add with the product, or to leave for later. */
  #biases(x: Tensor): [now: Tensor | null, later: Tensor | null] {
    const later = usesFused() && x.device === "cpu" && this.bias?.dtype === "float32";
    return later ? [null, this.bias] : [this.bias, null];
  }
}

/**
 * Linear without bias whose rows are directions times lengths: weight = g v / ||v||. Names weight_g [out, 1] and weight_v [out, in], as
 * torch's weight_norm. `g` starts at 1 where `unitNorm` is set (DINO), else at ||v||.
 */
export class WeightNormLinear extends Module {
  weightG: Tensor;
  weightV: Tensor;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { unitNorm = false }: { unitNorm?: boolean } = {},
  ) {
    super();
    const v = kaimingUniform_(empty([outFeatures, inFeatures]));
    this.weightG = parameter(unitNorm ? ones([outFeatures, 1]) : v.norm({ dim: 1, keepdim: true }));
    this.weightV = parameter(v);
  }

  /** The matrix that the layer multiplies with, [out, in]; under autocast rounded as the product would round it. */
  weight(): Tensor {
    return weightNorm(this.weightV, this.weightG);
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight());
  }
}
