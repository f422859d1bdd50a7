// Reads a recipe file: TypeScript, JavaScript or JSON, anywhere on disk. In it, `tessera` and its parts are this very library, whatever is
// installed where the file lies: the engine must not be loaded twice.
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { TesseraError } from "../errors.js";
import { applyOverrides } from "./overrides.js";
import { ConfigError, type Recipe, resolveRecipe } from "./recipe.js";

/** A recipe file that cannot be read or run; the message has the file and, where it is known, the line. */
export class RecipeFileError extends TesseraError {}

/** What a recipe may import, by the names of package.json's `exports`. */
const doors = ["", "torch", "nn", "optim", "data", "models", "methods", "train", "evaluate", "draw"];

const kinds = [".ts", ".mts", ".js", ".mjs", ".cjs", ".json"];

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
  const file = resolve(path);
  const found = await stat(file).catch(() => null);
  if (!found) throw new RecipeFileError(`there is no recipe ${path}`);
  if (found.isDirectory()) throw new RecipeFileError(`${path} is a folder; expected a recipe file (${kinds.join(", ")})`);
  const kind = extname(file);
  if (kind === ".json") return readJson(path);
  if (!kinds.includes(kind))
    throw new RecipeFileError(`${path} is not a recipe: expected a file that ends in ${kinds.join(", ")}`);
  return importRecipe(path, file);
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8").catch((cause) => {
    throw new RecipeFileError(`${path} cannot be read: ${messageOf(cause)}`, { cause });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RecipeFileError(`${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  return isRecord(value) && isRecord(value.recipe) && isRecord(value.versions) ? value.recipe : value;
}

async function importRecipe(path: string, file: string): Promise<unknown> {
  const { createJiti } = await import("jiti");
  const virtualModules = await ownModules();
  const jiti = createJiti(import.meta.url, { fsCache: false, interopDefault: false, virtualModules });
  let module: { default?: unknown };
  try {
    module = await jiti.import(file);
  } catch (error) {
    throw fileError(path, file, error);
  }
  const recipe = module.default;
  if (isRecord(recipe)) return recipe;
  const what =
    recipe === undefined
      ? "has no default export"
      : `exports by default ${Array.isArray(recipe) ? "a list" : `a ${typeof recipe}`}`;
  throw new RecipeFileError(`${path} ${what}; expected: export default defineRecipe({ ... })`);
}

/** This library's own doors, from dist/ or from src/, wherever this file runs from. */
async function ownModules(): Promise<Record<string, unknown>> {
  const here = fileURLToPath(import.meta.url);
  const root = dirname(dirname(here));
  const entries = doors.map(async (door) => {
    const url = pathToFileURL(join(root, door, `index${extname(here)}`)).href;
    return [door ? `tessera/${door}` : "tessera", await import(/* @vite-ignore */ url)] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** What went wrong in a recipe file, with the place in it. Errors of this library keep their sentence. */
function fileError(path: string, file: string, error: unknown): RecipeFileError {
  const message = messageOf(error);
  const syntax = /^ParseError: ([\s\S]*?)\s*\n (.+):(\d+):(\d+)$/.exec(message);
  if (syntax) {
    const [, what, where, line, column] = syntax; // the parser counts columns from 0
    return new RecipeFileError(`${where === file ? path : where}:${line}:${Number(column) + 1}: ${what!.trim()}`, {
      cause: error,
    });
  }
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const frame = stack
    .split("\n")
    .find((line) => line.includes(`${dirname(file)}/`) && !line.includes("/node_modules/") && /:\d+:\d+\)?$/.test(line));
  const place = frame && /\(?(?:file:\/\/)?(\/[^()]*):(\d+):(\d+)\)?$/.exec(frame);
  const where = place ? `${place[1] === file ? path : place[1]}:${place[2]}:${place[3]}` : path;
  // jiti writes an import as `(0, _tessera.name)`.
  const plain = message.split("\nRequire stack:")[0]!.replace(/\(0\s*,\s*_\w+\.(\w+)\)/g, "$1");
  const kind = error instanceof TesseraError || !(error instanceof Error) || error.name === "Error" ? "" : `${error.name}: `;
  return new RecipeFileError(`${where}: ${kind}${plain}`, { cause: error });
}

/** `recipes/demo-mst.ts` is called demo-mst; what a name cannot have becomes a hyphen. A run's recipe.json is called after its folder. */
function nameOf(path: string): string {
  const file = resolve(path);
  const stem = basename(file, extname(file));
  const name = stem === "recipe" ? basename(dirname(file)) : stem;
  return name.replace(/[^\w.-]+/g, "-") || "recipe";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
