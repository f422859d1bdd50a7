// Fully connected layers.
import { type Branch, empty, linear, ones, type Tensor, usesFused, weightNorm } from "../torch/index.js";
import { kaimingUniform_, uniform_ } from "./init.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

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
  product(x: Tensor): Pick<Branch, "x" | "bias"> {
    const later = usesFused() && x.device === "cpu" && this.bias?.dtype === "float32";
    return { x: linear(x, this.weight, later ? null : this.bias), bias: later ? this.bias : null };
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
