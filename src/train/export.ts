// export/backbone.safetensors: the encoder by timm's names, with what a reader must know of it in the metadata.
import type { Method } from "../methods/index.js";
import { writeSafetensors } from "../torch/index.js";
import type { Recipe } from "./recipe.js";
import { backboneConfigOf } from "./session.js";

/** Writes the encoder of a run. */
export function exportEncoder(
  path: string,
  method: Method,
  recipe: Recipe,
  at: { step: number; epoch: number },
  version: string,
): void {
  const { encoder } = method;
  // In one order, whichever the recipe has: the same run writes the same file.
  const model = Object.fromEntries(Object.entries(backboneConfigOf(recipe)).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeSafetensors(path, encoder.stateDict(), {
    format: "pt",
    tessera: version,
    method: method.name,
    branch: method.branch,
    step: String(at.step),
    epoch: String(at.epoch),
    model: JSON.stringify(model),
    mean: JSON.stringify(recipe.data.mean),
    std: JSON.stringify(recipe.data.std),
  });
}
