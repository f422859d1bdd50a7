// Where the weights are that `--weights FILE|RUN` and `--init-from` name, and with which recipe they were made.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { LoadedEncoder, VitConfig } from "../models/index.js";
import type { Recipe } from "../train/index.js";
import { UsageError } from "./errors.js";

/** The safetensors file that is meant: the file itself, a run's export, or its newest checkpoint where nothing is exported yet. */
export function weightsFile(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw new UsageError(`there is no ${path}; expected a run folder or a safetensors file`);
  if (found.isFile()) {
    if (path.endsWith(".safetensors")) return path;
    throw new UsageError(`${path} is no safetensors file; expected one, or a run folder`);
  }
  const folder = join(path, "export");
  const exported = join(folder, "backbone.safetensors");
  if (existsSync(exported)) return exported;
  const others = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".safetensors")) : [];
  if (others.length === 1) return join(folder, others[0]!);
  const checkpoints = join(path, "checkpoints");
  const names = existsSync(checkpoints) ? readdirSync(checkpoints).filter((name) => /^step-\d+\.safetensors$/.test(name)) : [];
  const newest = names.sort().at(-1);
  if (newest) return join(checkpoints, newest);
  throw new UsageError(
    `${path} has neither export/backbone.safetensors nor a checkpoint; expected a run folder or a safetensors file`,
  );
}

/** The recipe of the run that a file lies in (in export/ or checkpoints/), or null. */
export function recipeBeside(file: string): Recipe | null {
  for (const folder of [dirname(file), dirname(dirname(file))]) {
    const path = join(folder, "recipe.json");
    if (!existsSync(path)) continue;
    try {
      const { recipe, versions } = JSON.parse(readFileSync(path, "utf8")) as { recipe?: Recipe; versions?: unknown };
      if (recipe?.model && recipe.data && versions) return recipe;
    } catch {
      // Some other recipe.json.
    }
  }
  return null;
}

export interface Weights extends LoadedEncoder {
  file: string;
  recipe: Recipe | null;
}

/** Loads the encoder; what its file does not say (heads) comes from its run's recipe. */
export async function loadWeights(path: string, options: VitConfig = {}): Promise<Weights> {
  const file = weightsFile(path);
  const recipe = recipeBeside(file);
  const { loadEncoder } = await import("../models/index.js");
  const heads = recipe?.model.name === "vit" ? recipe.model.heads : undefined;
  return { file, recipe, ...loadEncoder(file, { ...(heads !== undefined && { heads }), ...options }) };
}
