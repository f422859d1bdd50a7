// Tensors that belong to a Module: parameters are trained, buffers are only kept.
import { keep, type Tensor } from "../torch/index.js";

/** A leaf that an optimiser trains: outlives every scope and requires a gradient. */
export function parameter(tensor: Tensor, { requiresGrad = true }: { requiresGrad?: boolean } = {}): Tensor {
  keep(tensor);
  tensor.role = "parameter";
  return tensor.requiresGrad_(requiresGrad);
}

/** State that is not trained. A persistent buffer (the default) is part of the state dict. */
export function buffer(tensor: Tensor, { persistent = true }: { persistent?: boolean } = {}): Tensor {
  keep(tensor);
  tensor.role = persistent ? "buffer" : "temporary";
  return tensor;
}
