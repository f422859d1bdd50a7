// Gradients: backward and grad, and where operators record history.
import { native } from "./native.js";
import type { Tensor } from "./tensor.js";

export interface BackwardOptions {
  /** Gradients of each output; may be left out (or null) for scalar outputs. */
  gradients?: readonly (Tensor | null)[];
  /** Keep the graph for another backward. Default: same as createGraph. */
  retainGraph?: boolean;
  /** Record the backward itself, for second derivatives. Default false. */
  createGraph?: boolean;
  /** Accumulate into these leaves only. */
  inputs?: readonly Tensor[];
}

/** Accumulates the gradients of `outputs` into the `grad` of the leaves they depend on. */
export function backward(outputs: readonly Tensor[], options: BackwardOptions = {}): void {
  const { gradients = null, createGraph = false, retainGraph = createGraph, inputs = null } = options;
  native.backward(outputs, gradients, retainGraph, createGraph, inputs);
}

export interface GradOptions extends Omit<BackwardOptions, "inputs"> {
  /** Give null for inputs that the outputs do not depend on, instead of an error. Default false. */
  allowUnused?: boolean;
}

/** The gradients of `outputs` with respect to `inputs`, without touching any `grad`. */
export function grad(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  options?: GradOptions & { allowUnused?: false },
): Tensor[];
export function grad(outputs: readonly Tensor[], inputs: readonly Tensor[], options: GradOptions): (Tensor | null)[];
export function grad(outputs: readonly Tensor[], inputs: readonly Tensor[], options: GradOptions = {}): (Tensor | null)[] {
  const { gradients = null, createGraph = false, retainGraph = createGraph, allowUnused = false } = options;
  return native.grad(outputs, inputs, gradients, retainGraph, createGraph, allowUnused);
}

function withGradMode<R>(on: boolean, fn: () => R): R {
  const before = native.setGradEnabled(on);
  try {
    return fn();
  } finally {
    native.setGradEnabled(before);
  }
}

/** Runs the synchronous `fn` without recording history. */
export function noGrad<R>(fn: () => R): R {
  return withGradMode(false, fn);
}

/** Runs the synchronous `fn` recording history, also inside noGrad. */
export function enableGrad<R>(fn: () => R): R {
  return withGradMode(true, fn);
}

/** True where operators record history. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled();
}
