// The weights of vit.py and vit_timm.py: each by a formula of its name and shape, so that no weights need to be committed.
import type { Module } from "../../src/nn/index.js";
import { fromTypedArray, noGrad, type Tensor } from "../../src/torch/index.js";
import { seedOf } from "./golden.js";

/** value_of() of vit.py, float64. */
export function weightOf(name: string, shape: readonly number[]): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const start = seedOf(name) * 104729;
  const variance = name.endsWith("running_var");
  let [offset, factor] = [0, 1.5 / Math.sqrt(count / (shape[0] ?? 1))];
  if (variance) [offset, factor] = [0.5, 1];
  else if (name.endsWith("weight_g")) [offset, factor] = [1, 0.2];
  else if (/(gamma|_token|pos_embed)$/.test(name)) factor = 0.5;
  else if (shape.length === 1) [offset, factor] = [name.endsWith("weight") ? 1 : 0, 0.1];
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const f = ((i * 7919 + start + i * i * 31) % 2003) / 1001.5 - 1;
    values[i] = offset + factor * (variance ? Math.abs(f) : f);
  }
  return fromTypedArray(values, shape);
}

/** set_weights() of vit.py. Returns the module. */
export function setWeights<M extends Module>(module: M, prefix = ""): M {
  noGrad(() => {
    for (const [name, each] of module.stateDict()) {
      if (name.endsWith("num_batches_tracked")) continue;
      const value = weightOf(prefix + name, each.shape);
      each.copy_(value);
      value.dispose();
    }
  });
  return module;
}
