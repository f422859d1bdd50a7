// Recipes from files.

import { applyOverrides, isRecord } from "../config/index.js";
import { nameOf, readConfigFile } from "./config-file.js";
import { ConfigError, type Recipe, resolveRecipe } from "./recipe.js";

export { RecipeFileError } from "./config-file.js";

/**
 * Reads, changes, checks and completes a recipe. A recipe without a name gets the file's.
 *
 * @param overrides `path=value`, see applyOverrides
 * @throws RecipeFileError when the file cannot be read, ConfigError when the recipe is wrong
 */
export async function loadRecipe(path: string, overrides: readonly string[] = []): Promise<Recipe> {
  const input = applyOverrides(await readRecipe(path), overrides);
  const named = isRecord(input) && input.name === undefined ? { ...input, name: nameOf(path) } : input;
  try {
    return resolveRecipe(named);
  } catch (error) {
    if (error instanceof ConfigError) throw new ConfigError(error.issues, path, { cause: error });
    throw error;
  }
}

/** What a recipe file gives, unchecked. A run's recipe.json is taken too: the recipe in it. */
export async function readRecipe(path: string): Promise<unknown> {
  const value = await readConfigFile(path, { noun: "recipe", define: "defineRecipe" });
  return isRecord(value) && isRecord(value.recipe) && isRecord(value.versions) ? value.recipe : value;
}
