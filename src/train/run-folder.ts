// The folder of a run: recipe.json, metrics.jsonl, checkpoints/, export/, images/.
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { replaceText } from "../files.js";
import { RunError } from "./errors.js";
import { MetricsLog } from "./metrics-log.js";
import { differingKeys, type Recipe } from "./recipe.js";

/** Versions that a run was made with. */
export interface Versions {
  tessera: string;
  node: string;
  libtorch: string;
}

export class RunFolder {
  readonly recipePath: string;
  readonly checkpoints: string;
  readonly images: string;
  readonly exportPath: string;
  readonly metrics: MetricsLog;

  constructor(readonly path: string) {
    this.recipePath = join(path, "recipe.json");
    this.checkpoints = join(path, "checkpoints");
    this.images = join(path, "images");
    this.exportPath = join(path, "export", "backbone.safetensors");
    this.metrics = new MetricsLog(join(path, "metrics.jsonl"));
  }

  /** Starts a new run in a folder that is empty or not there yet. */
  static create(path: string, recipe: Recipe, versions: Versions): RunFolder {
    if (existsSync(path) && readdirSync(path).length > 0) {
      throw new RunError(`${path} is not empty: choose another folder with --out, or go on with the run in it with --resume`);
    }
    const folder = new RunFolder(path);
    for (const each of [path, folder.checkpoints, folder.images]) mkdirSync(each, { recursive: true });
    replaceText(folder.recipePath, `${JSON.stringify({ versions, recipe }, null, 2)}\n`);
    return folder;
  }

  /** Opens the folder of an existing run. */
  static open(path: string): RunFolder {
    const folder = new RunFolder(path);
    if (!existsSync(folder.recipePath)) throw new RunError(`${path} is not the folder of a run: it has no recipe.json`);
    mkdirSync(folder.checkpoints, { recursive: true });
    mkdirSync(folder.images, { recursive: true });
    return folder;
  }

  read(): { recipe: Recipe; versions: Versions } {
    try {
      return JSON.parse(readFileSync(this.recipePath, "utf8")) as { recipe: Recipe; versions: Versions };
    } catch (error) {
      throw new RunError(`${this.recipePath} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Refuses to go on with another recipe than the run began with. */
  checkSame(recipe: Recipe): void {
    const keys = differingKeys(this.read().recipe, recipe);
    if (keys.length > 0) {
      throw new RunError(
        `${this.path} was begun with another recipe; it differs in ${keys.join(", ")}. Resume with the same recipe, or start a new run from its weights with --init-from`,
      );
    }
  }
}
