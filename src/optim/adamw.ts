// AdamW (arXiv 1711.05101) with torch's arithmetic: decay is decoupled from the gradient and scaled by the learning rate.
import { emptyLike, foreach, full, fusedAdamW, type Tensor, versionInfo } from "../torch/index.js";
import { OptimizerError } from "./errors.js";
import type { ParameterGroup } from "./groups.js";
import { divEach_ } from "./lists.js";
import { Optimizer, type OptimizerConfig, type Update } from "./optimizer.js";

export interface AdamWConfig extends OptimizerConfig {
  /** Default 0.01. */
  weightDecay?: number;
  /** Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Default 1e-8. */
  eps?: number;
  /** One operator for the whole step, instead of one for each of its lines. Default: where this libtorch has it. */
  fused?: boolean;
}

/** The operator came with 2.0 for CUDA and with 2.4 for CPU. */
function hasFused(device: string): boolean {
  if (!fusedAdamW.available) return false;
  const [major = 0, minor = 0] = versionInfo().torch.split(".").map(Number);
  return device !== "cpu" || major > 2 || (major === 2 && minor >= 4);
}

export class AdamW extends Optimizer {
  protected readonly kind = "AdamW";
  protected readonly slots = ["exp_avg", "exp_avg_sq"];
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly fused: boolean;

  constructor(groups: readonly ParameterGroup[], config: AdamWConfig) {
    super(groups, { ...config, weightDecay: config.weightDecay ?? 0.01 });
    const { betas = [0.9, 0.999], eps = 1e-8, fused } = config;
    const available = hasFused(this.parameters[0]!.device);
    if (fused && !available)
      throw new OptimizerError("this libtorch has no fused AdamW for this device; leave out { fused: true }");
    this.betas = betas;
    this.eps = eps;
    this.fused = fused ?? available;
  }

  protected override update(updates: readonly Update[], lr: number, weightDecay: number): void {
    const parameters = updates.map((each) => each.parameter);
    const expAvg = updates.map((each) => this.slot(each, "exp_avg"));
    const expAvgSq = updates.map((each) => this.slot(each, "exp_avg_sq"));
    const [beta1, beta2] = this.betas;
    const { eps } = this;
    if (this.fused) {
      const gradients = updates.map(({ gradient, parameter }) => sameLayout(gradient, parameter));
      fusedAdamW.step(parameters, gradients, expAvg, expAvgSq, stepTensors(updates), { lr, beta1, beta2, weightDecay, eps });
      return;
    }
    const gradients = updates.map((each) => each.gradient);
    if (weightDecay !== 0) foreach.mul_(parameters, 1 - lr * weightDecay);
    foreach.lerp_(expAvg, gradients, 1 - beta1);
    foreach.mul_(expAvgSq, beta2);
    foreach.addcmul_(expAvgSq, gradients, gradients, 1 - beta2);
    const denominators = foreach.sqrt(expAvgSq);
    divEach_(
      denominators,
      updates.map(({ state }) => Math.sqrt(1 - beta2 ** state.step)),
    );
    foreach.addScalar_(denominators, eps);
    foreach.addcdiv_(
      parameters,
      expAvg,
      denominators,
      updates.map(({ state }) => -lr / (1 - beta1 ** state.step)),
    );
  }
}

/** The fused operator walks through memory without looking at strides. */
function sameLayout(gradient: Tensor, parameter: Tensor): Tensor {
  if (gradient.isContiguous && parameter.isContiguous) return gradient;
  return gradient.strides.join() === parameter.strides.join() ? gradient : emptyLike(parameter).copy_(gradient);
}

/** Step counts as the fused operator wants them: one float32 scalar each; equal counts share one. */
function stepTensors(updates: readonly Update[]): Tensor[] {
  const made = new Map<number, Tensor>();
  return updates.map(({ state: { step }, parameter }) => {
    let tensor = made.get(step);
    if (!tensor) {
      tensor = full([], step, { device: parameter.device });
      made.set(step, tensor);
    }
    return tensor;
  });
}
