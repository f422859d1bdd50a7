// The folder of a run: recipe.json, metrics.jsonl, checkpoints/, export/, images/, and captures/ where a step failed.
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { removeTemporary, replaceText } from "../files.js";
import { MetricsLog, RunError, type Versions } from "../fit/index.js";
import { differingKeys, type Recipe } from "./recipe.js";

/** What recipe.json holds. */
export interface RunRecord {
  recipe: Recipe;
  versions: Versions;
  /** The file whose encoder the run started from, if it did. */
  initFrom?: string;
}

export class RunFolder {
  readonly recipePath: string;
  readonly checkpoints: string;
  readonly images: string;
  readonly captures: string;
  readonly exports: string;
  /** The exported encoder. */
  readonly exportPath: string;
  readonly metrics: MetricsLog;

  constructor(readonly path: string) {
    this.recipePath = join(path, "recipe.json");
    this.checkpoints = join(path, "checkpoints");
    this.images = join(path, "images");
    this.captures = join(path, "captures");
    this.exports = join(path, "export");
    this.exportPath = join(this.exports, "backbone.safetensors");
    this.metrics = new MetricsLog(join(path, "metrics.jsonl"));
  }

  /** Starts a new run in a folder that is empty or not there yet. */
  static create(path: string, record: RunRecord): RunFolder {
    if (existsSync(path) && !isBlank(path)) {
      throw new RunError(`${path} is not empty: choose another folder with --out, or go on with the run in it with --resume`);
    }
    const folder = new RunFolder(path);
    for (const each of [path, folder.checkpoints, folder.images]) mkdirSync(each, { recursive: true });
    replaceText(folder.recipePath, `${JSON.stringify(record, null, 2)}\n`);
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

  /** Removes the temporary files of a process that was killed while it wrote. */
  sweep(): void {
    for (const folder of [this.path, this.checkpoints, join(this.path, "export"), this.images, this.captures]) {
      removeTemporary(folder);
    }
  }

  read(): RunRecord {
    let record: Partial<RunRecord>;
    try {
      record = JSON.parse(readFileSync(this.recipePath, "utf8")) as RunRecord;
    } catch (error) {
      throw new RunError(`${this.recipePath} cannot be read: ${(error as Error).message}`, { cause: error });
    }
    if (record.recipe && record.versions) return record as RunRecord;
    throw new RunError(`${this.recipePath} is not what a run writes: it has no recipe and versions`);
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

/** Whether nothing is in a folder but what a process leaves that is killed before it wrote recipe.json. */
function isBlank(path: string): boolean {
  return readdirSync(path, { recursive: true, withFileTypes: true }).every((entry) =>
    entry.isDirectory() ? ["checkpoints", "images"].includes(entry.name) : /^\.recipe\.json\..*\.tmp$/.test(entry.name),
  );
}
