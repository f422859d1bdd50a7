// Stochastic gradient descent with torch's arithmetic: decay is added to the gradient, the momentum buffer starts as the first gradient.
import { foreach, type Tensor } from "../torch/index.js";
import { OptimizerError } from "./errors.js";
import type { ParameterGroup } from "./groups.js";
import { addLists } from "./lists.js";
import { Optimizer, type OptimizerConfig, type Update } from "./optimizer.js";

export interface SGDConfig extends OptimizerConfig {
  /** Default 0. */
  momentum?: number;
  /** Part of the gradient that does not enter the momentum buffer. Default 0. */
  dampening?: number;
  /** Look ahead along the momentum. Default false. */
  nesterov?: boolean;
}

export class SGD extends Optimizer {
  protected readonly kind = "SGD";
  protected readonly slots: readonly string[];
  readonly momentum: number;
  readonly dampening: number;
  readonly nesterov: boolean;

  constructor(groups: readonly ParameterGroup[], config: SGDConfig) {
    super(groups, config);
    const { momentum = 0, dampening = 0, nesterov = false } = config;
    if (nesterov && (momentum <= 0 || dampening !== 0)) {
      throw new OptimizerError(`nesterov needs a momentum above 0 and no dampening, but they are ${momentum} and ${dampening}`);
    }
    this.momentum = momentum;
    this.dampening = dampening;
    this.nesterov = nesterov;
    this.slots = momentum === 0 ? [] : ["momentum_buffer"];
  }

  protected override update(updates: readonly Update[], lr: number, weightDecay: number): void {
    const parameters = updates.map((each) => each.parameter);
    let directions = updates.map((each) => each.gradient);
    if (weightDecay !== 0) directions = addLists(directions, parameters, weightDecay);
    if (this.momentum !== 0) {
      const buffers = updates.map((each) => this.slot(each, "momentum_buffer"));
      this.#accumulate(updates, buffers, directions);
      directions = this.nesterov ? addLists(directions, buffers, this.momentum) : buffers;
    }
    foreach.add_(parameters, directions, -lr);
  }

  /** The first direction enters the buffer whole, later ones without the dampened part. */
  #accumulate(updates: readonly Update[], buffers: readonly Tensor[], directions: readonly Tensor[]): void {
    foreach.mul_(buffers, this.momentum);
    for (const first of [true, false]) {
      const chosen = [...updates.keys()].filter((i) => (updates[i]!.state.step === 1) === first);
      if (chosen.length === 0) continue;
      foreach.add_(
        chosen.map((i) => buffers[i]!),
        chosen.map((i) => directions[i]!),
        first ? 1 : 1 - this.dampening,
      );
    }
  }
}
