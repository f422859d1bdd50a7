// Normalisation layers.
import { batchNorm, layerNorm, noGrad, ones, tensor as scalar, type Tensor, zeros } from "../torch/index.js";
import { ShapeError } from "./errors.js";
import { Module } from "./module.js";
import { buffer, parameter } from "./parameter.js";

/** Over the last dimension. Default eps 1e-6, as ViTs have it (torch's own default is 1e-5). */
export class LayerNorm extends Module {
  weight: Tensor | null;
  bias: Tensor | null;
  readonly eps: number;

  constructor(
    readonly features: number,
    { eps = 1e-6, affine = true }: { eps?: number; affine?: boolean } = {},
  ) {
    super();
    this.eps = eps;
    this.weight = affine ? parameter(ones([features])) : null;
    this.bias = affine ? parameter(zeros([features])) : null;
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, [this.features], this.weight, this.bias, this.eps);
  }
}

export interface BatchNormConfig {
  /** Default 1e-5. */
  eps?: number;
  /** Weight of the newest batch in the running statistics. Default 0.1. */
  momentum?: number;
  /** Learn a scale and a shift. Default true. */
  affine?: boolean;
}

abstract class BatchNorm extends Module {
  weight: Tensor | null;
  bias: Tensor | null;
  runningMean: Tensor;
  runningVar: Tensor;
  numBatchesTracked: Tensor;
  readonly eps: number;
  readonly momentum: number;
  /** Whether training moves the running statistics. */
  tracking = true;

  constructor(
    readonly features: number,
    { eps = 1e-5, momentum = 0.1, affine = true }: BatchNormConfig = {},
  ) {
    super();
    this.eps = eps;
    this.momentum = momentum;
    this.weight = affine ? parameter(ones([features])) : null;
    this.bias = affine ? parameter(zeros([features])) : null;
    this.runningMean = buffer(zeros([features]));
    this.runningVar = buffer(ones([features]));
    this.numBatchesTracked = buffer(scalar(0, { dtype: "int64" }));
  }

  protected abstract readonly dimensions: readonly number[];

  /** x [N, C] or [N, C, ...]: statistics of the batch while training, the running ones otherwise. */
  forward(x: Tensor): Tensor {
    const shape = x.shape;
    if (!this.dimensions.includes(shape.length) || shape[1] !== this.features) {
      throw new ShapeError(
        `${this.constructor.name} expects [N, ${this.features}, ...] of ${this.dimensions.join(" or ")} dimensions, got [${shape.join(", ")}]`,
      );
    }
    const { weight, bias, training, momentum, eps } = this;
    if (training && !this.tracking) return batchNorm(x, { weight, bias, training, eps });
    if (training) noGrad(() => this.numBatchesTracked.add_(1));
    const { runningMean, runningVar } = this;
    return batchNorm(x, { weight, bias, runningMean, runningVar, training, momentum, eps });
  }
}

/** For [N, C] and [N, C, L]. */
export class BatchNorm1d extends BatchNorm {
  protected readonly dimensions = [2, 3];
}

/** For images [N, C, H, W]. */
export class BatchNorm2d extends BatchNorm {
  protected readonly dimensions = [4];
}

/** Runs `measure` with the batch norms of a module as in training, but without a trace in their running statistics. */
export function untracked<T>(module: Module, measure: () => T): T {
  const norms = Array.from(module.namedModules(), ([, each]) => each).filter((each) => each instanceof BatchNorm);
  for (const norm of norms) norm.tracking = false;
  try {
    return measure();
  } finally {
    for (const norm of norms) norm.tracking = true;
  }
}
