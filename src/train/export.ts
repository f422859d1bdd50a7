// export/backbone.safetensors: the encoder by timm's names, with what a reader must know of it in the metadata. Where a method trains no
// encoder, what it makes instead, under its own name.
import { join } from "node:path";
import { RunError } from "../fit/index.js";
import type { Method } from "../methods/index.js";
import type { Module } from "../nn/index.js";
import { writeSafetensors } from "../torch/index.js";
import type { Recipe } from "./recipe.js";
import type { RunFolder } from "./run-folder.js";
import { backboneConfigOf } from "./session.js";

interface Exported {
  path: string;
  module: Module;
  /** The architecture. */
  model: Readonly<Record<string, unknown>>;
}

function exportedBy({ name, encoder, product }: Method, folder: RunFolder, recipe: Recipe): Exported {
  if (encoder) return { path: folder.exportPath, module: encoder, model: { ...backboneConfigOf(recipe) } };
  if (product) return { ...product, path: join(folder.exports, `${product.name}.safetensors`) };
  throw new RunError(`the method "${name}" has neither an encoder nor a product to export`);
}

/** Writes what a run has made; returns where. */
export function exportMethod(
  folder: RunFolder,
  method: Method,
  recipe: Recipe,
  at: { step: number; epoch: number },
  version: string,
): string {
  const { path, module, model } = exportedBy(method, folder, recipe);
  // In one order, whichever the recipe has: the same run writes the same file.
  const sorted = Object.fromEntries(Object.entries(model).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeSafetensors(path, module.stateDict(), {
    format: "pt",
    tessera: version,
    method: method.name,
    branch: method.branch,
    step: String(at.step),
    epoch: String(at.epoch),
    model: JSON.stringify(sorted),
    ...(method.encoder && { mean: JSON.stringify(recipe.data.mean), std: JSON.stringify(recipe.data.std) }),
  });
  return path;
}
