// Reads files that default-export an object: recipes and studies, as TypeScript, JavaScript or JSON, anywhere on disk. In them, `tessera` and
// its parts are this very library, whatever is installed where the file lies: the engine must not be loaded twice.
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isRecord } from "../config/index.js";
import { TesseraError } from "../errors.js";

/** A file that cannot be read or run; the message has the file and, where it is known, the line. */
export class RecipeFileError extends TesseraError {}

/** What is expected in a file. */
export interface FileKind {
  /** What it is called in messages. */
  noun: "recipe" | "study";
  /** The function that its default export is made with. */
  define: string;
}

/** What a file may import, by the names of package.json's `exports`. */
const doors = ["", "torch", "nn", "optim", "data", "models", "methods", "train", "evaluate", "draw"];

const endings = [".ts", ".mts", ".js", ".mjs", ".cjs", ".json"];

/**
 * What a file gives, unchecked.
 *
 * @throws RecipeFileError
 */
export async function readConfigFile(path: string, kind: FileKind): Promise<unknown> {
  const { noun } = kind;
  const file = resolve(path);
  const found = await stat(file).catch(() => null);
  if (!found) throw new RecipeFileError(`there is no ${noun} ${path}`);
  if (found.isDirectory()) throw new RecipeFileError(`${path} is a folder; expected a ${noun} file (${endings.join(", ")})`);
  const ending = extname(file);
  if (ending === ".json") return readJson(path);
  if (!endings.includes(ending))
    throw new RecipeFileError(`${path} is not a ${noun}: expected a file that ends in ${endings.join(", ")}`);
  return importFile(path, file, kind);
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8").catch((cause) => {
    throw new RecipeFileError(`${path} cannot be read: ${messageOf(cause)}`, { cause });
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RecipeFileError(`${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
}

async function importFile(path: string, file: string, { define }: FileKind): Promise<unknown> {
  const { createJiti } = await import("jiti");
  const virtualModules = await ownModules();
  const jiti = createJiti(import.meta.url, { fsCache: false, interopDefault: false, virtualModules });
  let module: { default?: unknown };
  try {
    module = await jiti.import(file);
  } catch (error) {
    throw fileError(path, file, error);
  }
  const given = module.default;
  if (isRecord(given)) return given;
  const what =
    given === undefined ? "has no default export" : `exports by default ${Array.isArray(given) ? "a list" : `a ${typeof given}`}`;
  throw new RecipeFileError(`${path} ${what}; expected: export default ${define}({ ... })`);
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

/** What went wrong in a file, with the place in it. Errors of this library keep their sentence. */
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
export function nameOf(path: string): string {
  const file = resolve(path);
  const stem = basename(file, extname(file));
  const name = stem === "recipe" ? basename(dirname(file)) : stem;
  return name.replace(/[^\w.-]+/g, "-") || "recipe";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
