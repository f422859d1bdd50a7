// `tessera pretrain RECIPE`: trains by a recipe into a run folder.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { Recipe, RunSummary } from "../train/index.js";
import { EXIT, UsageError } from "./errors.js";
import { print, printJson, say, table } from "./output.js";
import { weightsFile } from "./weights.js";

interface PretrainFlags {
  out?: string;
  set: string[];
  resume?: boolean;
  initFrom?: string;
  json?: boolean;
  quiet?: boolean;
}

/** `--set a=1 --set b=2` */
export const collect = (value: string, before: string[]): string[] => [...before, value];

export function registerPretrain(program: Command, setExit: (code: number) => void): void {
  program
    .command("pretrain")
    .description("train an encoder by a recipe")
    .argument("[recipe]", "a recipe file (.ts, .js, .json); with --resume, default the recipe of the run")
    .option("-o, --out <dir>", "the run folder (default: runs/NAME-yyyymmdd-hhmmss)")
    .option("-s, --set <path=value>", "change the recipe; as often as needed", collect, [])
    .option("--resume", "go on with the run in --out")
    .option("--init-from <weights>", "start from the encoder of a run or a safetensors file")
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
The run folder holds the complete recipe (recipe.json), metrics.jsonl, checkpoints/, export/backbone.safetensors and images/. Ctrl-C ends
the run after the current step with a checkpoint; --resume goes on from it.

Examples:
  $ tessera pretrain recipes/demo-mst.ts
  $ tessera pretrain mine.ts --out runs/mine --set optimizer.lr=1e-3 --set train.epochs=50
  $ tessera pretrain --resume --out runs/mine
  $ tessera pretrain mine.ts --init-from runs/other`,
    )
    .action(async (path: string | undefined, flags: PretrainFlags) => setExit(await runPretrain(path, flags)));
}

async function runPretrain(path: string | undefined, flags: PretrainFlags): Promise<number> {
  const { out, resume = false, initFrom, json = false, quiet = false } = flags;
  if (resume && initFrom !== undefined) {
    throw new UsageError("--resume goes on with a run and --init-from starts a new one: give one of them");
  }
  if (path === undefined && !(resume && out !== undefined)) {
    throw new UsageError(
      resume
        ? "--resume needs the run to go on with: give --out DIR"
        : "give a recipe, as in: tessera pretrain recipes/demo-mst.ts",
    );
  }
  if (out !== undefined) checkFolder(out, resume);
  const start = initFrom === undefined ? undefined : weightsFile(initFrom);
  const { loadRecipe, pretrain, silentReporter, streamReporter } = await import("../train/index.js");
  const recipe = await loadRecipe(path ?? join(out!, "recipe.json"), flags.set);
  const folder = out ?? newFolder(recipe.name ?? "run", resume);
  if (!quiet) say(describeRecipe(recipe));
  const summary = await pretrain(recipe, {
    out: folder,
    resume,
    ...(start !== undefined && { initFrom: start }),
    reporter: quiet ? silentReporter : streamReporter(process.stderr, { every: recipe.train.logEvery }),
  });
  if (json) printJson(summary);
  else print(describeSummary(summary));
  return summary.status === "interrupted" ? EXIT.interrupted : EXIT.done;
}

/** Before anything is loaded: a folder that cannot be what was asked for. */
function checkFolder(out: string, resume: boolean): void {
  const isRun = existsSync(join(out, "recipe.json"));
  if (resume && !isRun)
    throw new UsageError(`${out} is not the folder of a run (it has no recipe.json), so there is nothing to resume`);
  if (resume || !existsSync(out)) return;
  let entries: string[];
  try {
    entries = readdirSync(out);
  } catch (cause) {
    throw new UsageError(`${out} cannot be used as the run folder: ${(cause as Error).message}`, { cause });
  }
  if (entries.length > 0) {
    throw new UsageError(
      isRun
        ? `${out} already holds a run: go on with it by --resume, or choose another folder with --out`
        : `${out} is not empty: choose another folder with --out`,
    );
  }
}

function newFolder(name: string, resume: boolean): string {
  if (!resume) return join("runs", `${name}-${stamp(new Date())}`);
  const runs = existsSync("runs") ? readdirSync("runs").filter((entry) => entry.startsWith(`${name}-`)) : [];
  const last = runs.sort().at(-1);
  throw new UsageError(`--resume needs the run to go on with: give --out ${last ? join("runs", last) : "DIR"}`);
}

/** Local time as yyyymmdd-hhmmss. */
export function stamp(at: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}${two(at.getMonth() + 1)}${two(at.getDate())}`;
  return `${day}-${two(at.getHours())}${two(at.getMinutes())}${two(at.getSeconds())}`;
}

/** The resolved recipe, a line a section. */
export function describeRecipe(recipe: Recipe): string {
  const { name, ...sections } = recipe;
  const rows = Object.entries(sections).map(([section, values]) => [section, flat(values as object).join(" ")]);
  return `recipe ${name ?? ""}\n${table(rows, "  ")}`;
}

function flat(values: object, prefix = ""): string[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const path = prefix ? `${prefix}.${key}` : key;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return flat(value, path);
    return [`${path}=${typeof value === "string" ? value : JSON.stringify(value)}`];
  });
}

function describeSummary({ out, status, step, epoch, seconds, knn, export: file, pictures }: RunSummary): string {
  const rows = [
    ["run", out],
    [status, `step ${step}, epoch ${epoch + 1}, ${seconds.toFixed(0)} s`],
    ...(knn
      ? [
          [
            "k-NN top-1",
            Object.entries(knn)
              .map(([k, top1]) => `${top1.toFixed(2)} % (k = ${k})`)
              .join(", "),
          ],
        ]
      : []),
    ["exported", file],
    ...pictures.map((picture, i) => [i === 0 ? "pictures" : "", picture]),
  ];
  return table(rows);
}
