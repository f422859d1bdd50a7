// AdamW (arXiv 1711.05101) with torch's arithmetic: decay is decoupled from the gradient and scaled by the learning rate.
import { emptyLike, foreach, full, fusedAdamW, type Tensor, tidy, versionInfo } from "../torch/index.js";
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
    if (this.fused) this.#fusedStep(updates, lr, weightDecay);
    else for (const chunk of chunks(updates)) tidy(() => this.#plainStep(chunk, lr, weightDecay));
  }

  #fusedStep(updates: readonly Update[], lr: number, weightDecay: number): void {
    const { eps, betas } = this;
    fusedAdamW.step(
      updates.map((each) => each.parameter),
      updates.map(({ gradient, parameter }) => sameLayout(gradient, parameter)),
      updates.map((each) => this.slot(each, "exp_avg")),
      updates.map((each) => this.slot(each, "exp_avg_sq")),
      stepTensors(updates),
      { lr, beta1: betas[0], beta2: betas[1], weightDecay, eps },
    );
  }

  #plainStep(updates: readonly Update[], lr: number, weightDecay: number): void {
    const [beta1, beta2] = this.betas;
    const parameters = updates.map((each) => each.parameter);
    const gradients = updates.map((each) => each.gradient);
    const expAvg = updates.map((each) => this.slot(each, "exp_avg"));
    const expAvgSq = updates.map((each) => this.slot(each, "exp_avg_sq"));
    if (weightDecay !== 0) foreach.mul_(parameters, 1 - lr * weightDecay);
    foreach.lerp_(expAvg, gradients, 1 - beta1);
    foreach.mul_(expAvgSq, beta2);
    foreach.addcmul_(expAvgSq, gradients, gradients, 1 - beta2);
    const denominators = foreach.sqrt(expAvgSq);
    const corrections = updates.map(({ state }) => Math.sqrt(1 - beta2 ** state.step));
    divEach_(denominators, corrections);
    foreach.addScalar_(denominators, this.eps);
    const stepSizes = updates.map(({ state }) => -lr / (1 - beta1 ** state.step));
    foreach.addcdiv_(parameters, expAvg, denominators, stepSizes);
  }
}

/**
 * Runs of updates of about a quarter million elements: few enough to stay in the cache from one line of the rule to the next, and to need
 * little memory for the denominators. A larger tensor is a run of its own.
 */
function* chunks(updates: readonly Update[]): IterableIterator<Update[]> {
  let chunk: Update[] = [];
  let elements = 0;
  for (const each of updates) {
    const more = each.parameter.numel;
    if (chunk.length > 0 && elements + more > 2 ** 18) {
      yield chunk;
      chunk = [];
      elements = 0;
    }
    chunk.push(each);
    elements += more;
  }
  if (chunk.length > 0) yield chunk;
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
