// Modules one after another.
import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** Calls its layers in turn. State-dict names are the positions: `0.weight`, `2.bias`. */
export class Sequential extends Module {
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    this.layers = layers;
  }

  override *namedChildren(): IterableIterator<[string, Module]> {
    for (const [i, layer] of this.layers.entries()) yield [String(i), layer];
  }

  forward(x: Tensor): Tensor {
    let out = x;
    for (const layer of this.layers) out = layer.call(out) as Tensor;
    return out;
  }
}
