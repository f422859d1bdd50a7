// LARS (arXiv 1708.03888) as MoCo v3 has it: SGD with momentum whose step is made proportional to the norm of the weight. Biases and norms
// (at most one dimension) neither decay nor are adapted.
import { foreach, onesLike, stack, type Tensor, where } from "../torch/index.js";
import type { ParameterGroup } from "./groups.js";
import { addLists, scaleEach_ } from "./lists.js";
import { Optimizer, type OptimizerConfig, type Update } from "./optimizer.js";

export interface LARSConfig extends OptimizerConfig {
  /** Default 0.9. */
  momentum?: number;
  /** Wanted length of a step, relative to the weight's. Default 0.001. */
  trustCoefficient?: number;
}

export class LARS extends Optimizer {
  protected readonly kind = "LARS";
  protected readonly slots = ["mu"];
  readonly momentum: number;
  readonly trustCoefficient: number;

  constructor(groups: readonly ParameterGroup[], config: LARSConfig) {
    super(groups, config);
    const { momentum = 0.9, trustCoefficient = 0.001 } = config;
    this.momentum = momentum;
    this.trustCoefficient = trustCoefficient;
  }

  protected override update(updates: readonly Update[], lr: number, weightDecay: number): void {
    const matrices = updates.filter(({ parameter }) => parameter.ndim > 1);
    const adapted = new Map(this.#adapt(matrices, weightDecay).map((direction, i) => [matrices[i], direction]));
    const mu = updates.map((each) => this.slot(each, "mu"));
    foreach.mul_(mu, this.momentum);
    foreach.add_(
      mu,
      updates.map((each) => adapted.get(each) ?? each.gradient),
    );
    foreach.add_(
      updates.map((each) => each.parameter),
      mu,
      -lr,
    );
  }

  /** q (g + wd w) with q = trust ||w|| / ||g + wd w||, or 1 where either norm is 0. */
  #adapt(updates: readonly Update[], weightDecay: number): Tensor[] {
    if (updates.length === 0) return [];
    const weights = updates.map((each) => each.parameter);
    const directions = addLists(
      updates.map((each) => each.gradient),
      weights,
      weightDecay,
    );
    const weightNorm = stack(foreach.norm(weights));
    const directionNorm = stack(foreach.norm(directions));
    const ratio = weightNorm.mul(this.trustCoefficient).div(directionNorm);
    const both = weightNorm.gt(0).logicalAnd(directionNorm.gt(0));
    const factors = where(both, ratio, onesLike(ratio));
    scaleEach_(directions, factors.unbind(0));
    return directions;
  }
}
