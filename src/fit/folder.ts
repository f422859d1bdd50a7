// The folder of a supervised training: settings.json, metrics.jsonl, checkpoints/, export/, images/.
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { leavesOf } from "../config/index.js";
import { removeTemporary, replaceText } from "../files.js";
import { RunError } from "./errors.js";
import { MetricsLog } from "./metrics-log.js";
import { versions } from "./version.js";

/** Everything that decides a training, as plain JSON: options, the weights it starts from, the images. */
export type Settings = Readonly<Record<string, unknown>>;

const settingsName = "settings.json";

export class FitFolder {
  readonly settingsPath: string;
  readonly checkpoints: string;
  readonly images: string;
  readonly exports: string;
  readonly metrics: MetricsLog;

  private constructor(readonly path: string) {
    this.settingsPath = join(path, settingsName);
    this.checkpoints = join(path, "checkpoints");
    this.images = join(path, "images");
    this.exports = join(path, "export");
    this.metrics = new MetricsLog(join(path, "metrics.jsonl"));
    for (const each of [path, this.checkpoints, this.images]) mkdirSync(each, { recursive: true });
  }

  /** Starts a training in a folder that is empty or not there yet. @throws RunError where it is not */
  static create(path: string, settings: Settings): FitFolder {
    if (existsSync(path) && !isBlank(path)) {
      const held = existsSync(join(path, settingsName)) ? "already holds a training" : "is not empty";
      throw new RunError(`${path} ${held}: choose another folder with --out, or go on with the training in it with --resume`);
    }
    const folder = new FitFolder(path);
    replaceText(folder.settingsPath, `${JSON.stringify({ versions: versions(), settings }, null, 2)}\n`);
    return folder;
  }

  /** Opens the folder of a training to go on with it. @throws RunError where it is none, or was begun with other settings */
  static resume(path: string, settings: Settings): FitFolder {
    const begun = readSettings(path);
    const [before, now] = [leavesOf(begun), leavesOf(settings)];
    const keys = [...new Set([...before.keys(), ...now.keys()])].filter((key) => before.get(key) !== now.get(key));
    if (keys.length > 0) {
      const shown = keys
        .slice(0, 5)
        .map((key) => `${key} (${before.get(key) ?? "not given"} then, ${now.get(key) ?? "not given"} now)`);
      throw new RunError(
        `${path} was begun with other settings: ${shown.join(", ")}. Go on with the same, or choose another folder with --out`,
      );
    }
    const folder = new FitFolder(path);
    for (const each of [path, folder.checkpoints, folder.images, folder.exports]) removeTemporary(each);
    return folder;
  }
}

/** The settings that a training's folder was begun with. @throws RunError where it is no such folder */
export function readSettings(path: string): Settings {
  const file = join(path, settingsName);
  if (!existsSync(file))
    throw new RunError(`${path} is not the folder of a training (it has no ${settingsName}), so there is nothing to resume`);
  try {
    const { settings } = JSON.parse(readFileSync(file, "utf8")) as { settings?: Settings };
    if (settings) return settings;
  } catch (cause) {
    throw new RunError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  throw new RunError(`${file} is not what a training writes: it has no settings`);
}

/** Whether nothing is in a folder but what a process leaves that is killed before it wrote its settings. */
function isBlank(path: string): boolean {
  return readdirSync(path, { recursive: true, withFileTypes: true }).every((entry) =>
    entry.isDirectory() ? ["checkpoints", "images"].includes(entry.name) : /^\.settings\.json\..*\.tmp$/.test(entry.name),
  );
}
