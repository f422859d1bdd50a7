// What the tests of methods share: small encoders, batches made of formulas, and a step as the training loop makes it.

import type { Batch } from "../../src/data/index.js";
import type { Method, MethodContext, Progress, StepResult } from "../../src/methods/index.js";
import { type BackboneConfig, createBackbone, type VitConfig } from "../../src/models/index.js";
import type { StateDict } from "../../src/nn/index.js";
import type { Optimizer } from "../../src/optim/index.js";
import { noGrad, type Tensor, tidy } from "../../src/torch/index.js";
import { fill } from "../reference/golden.js";

export const tinyVit: VitConfig = { imageSize: 16, patchSize: 4, width: 16, depth: 2, heads: 2 };

export function context(config: BackboneConfig = tinyVit, batchSize = 4): MethodContext {
  const channels = (config.channels ?? 3) as 1 | 3;
  return {
    encoder: ({ dropPath = true } = {}) => createBackbone({ ...config, dropPath: dropPath ? (config.dropPath ?? 0) : 0 }),
    data: { channels, mean: Array(channels).fill(0.5), std: Array(channels).fill(0.25) },
    seed: 0,
    batchSize,
  };
}

/** Progress at a step of a run of 10 epochs of one step, unless said otherwise. */
export function at(step: number, changes: Partial<Progress> = {}): Progress {
  return { step, epoch: step, epochs: 10, totalSteps: 10, stepsPerEpoch: 1, report: false, ...changes };
}

/** The images of dino_mst.py at a step, float32. */
export function formulaBatch(step: number, { locals = 3, batch = 4 } = {}): Batch {
  const views: Record<string, Tensor> = { global: fill([2, batch, 3, 16, 16], 10 + step).float() };
  if (locals > 0) views.local = fill([locals, batch, 3, 8, 8], 20 + step).float();
  return { views, index: Int32Array.from({ length: batch }, (_, i) => i) };
}

/** Forward, backward and everything after, in the loop's order. What is read must be read inside `look`. */
export function trainStep<R = void>(
  method: Method,
  optimizer: Optimizer,
  batch: Batch,
  progress: Progress,
  look: (result: StepResult) => R = () => undefined as R,
): R {
  return tidy(() => {
    const result = method.step(batch, progress);
    result.loss.backward();
    method.beforeUpdate?.(progress);
    const seen = look(result);
    optimizer.step();
    optimizer.zeroGrad();
    method.afterStep(progress);
    return seen;
  });
}

/** Copies of a state's values. */
export function copyOf(state: StateDict): StateDict {
  return new Map([...state].map(([name, tensor]) => [name, noGrad(() => tensor.detach().clone())]));
}

/** Names whose values differ between a state and a copy of it. */
export function changed(state: StateDict, before: StateDict): string[] {
  return [...state].filter(([name, tensor]) => !tensor.equal(before.get(name)!)).map(([name]) => name);
}
