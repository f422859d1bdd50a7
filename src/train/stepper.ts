// A recipe's training steps by themselves, without data set, folder and log: for benchmarks.
import type { RawBatch } from "../data/index.js";
import type { Method, Progress } from "../methods/index.js";
import type { Optimizer } from "../optim/index.js";
import { StepGuard } from "./capture.js";
import { peakLearningRate, type Recipe } from "./recipe.js";
import { createMethod, createOptimizer } from "./session.js";
import { type StepNumbers, trainStep } from "./step.js";

export interface Stepper {
  readonly method: Method;
  readonly optimizer: Optimizer;
  /** One optimiser step, as the loop takes it, over batches made by `method.views`, one for each of `train.accumulate`. */
  step(raws: readonly RawBatch[], at: Progress): StepNumbers;
}

/** The method and the optimiser of a recipe, freshly initialised, at the recipe's highest learning rate. No data is opened. */
export function createStepper(recipe: Recipe): Stepper {
  const method = createMethod(recipe);
  const optimizer = createOptimizer(recipe, method, peakLearningRate(recipe));
  const guard = new StepGuard(method, null, recipe.train.precision);
  return { method, optimizer, step: (raws, at) => trainStep({ recipe, method, optimizer }, guard, raws, at) };
}
