// What the evaluations that train have in common on the command line: settings, the folder, resume, how it ends.
import { basename, dirname, join } from "node:path";
import type { Command } from "commander";
import type { FitResult, Reporter } from "../fit/index.js";
import { EXIT, UsageError } from "./errors.js";
import { whole } from "./numbers.js";
import { collect, stamp } from "./pretrain.js";

export interface FitFlags {
  preset?: string;
  set: string[];
  out?: string;
  resume?: boolean;
  bf16?: boolean;
  seed?: string;
  json?: boolean;
  quiet?: boolean;
}

/** Adds the options that every evaluation which trains has. `kind` is its folder's name, such as "finetune". */
export function fitOptions(command: Command, kind: string): Command {
  return command
    .option("-s, --set <path=value>", "change a setting; as often as needed", collect, [])
    .option("-o, --out <dir>", `the folder of the training (default: RUN/${kind}-yyyymmdd-hhmmss)`)
    .option("--resume", "go on with the training in --out")
    .option("--bf16", "compute in bfloat16 where it is safe")
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress");
}

/** What all trainings read off their flags before anything is loaded. `length` is the setting that says how long a training is. */
export function fitArguments<Length extends string>(
  flags: FitFlags & { workers?: string } & { [Key in Length]?: string },
  length: Length,
): { sets: string[]; workers: number | undefined } {
  if (flags.resume && flags.out === undefined) throw new UsageError("--resume needs the folder of the training: --out DIR");
  const given = flags[length];
  return {
    sets: [
      ...flags.set,
      ...(given === undefined ? [] : [`${length}=${whole(`--${length}`, given)}`]),
      ...(flags.seed === undefined ? [] : [`seed=${whole("--seed", flags.seed, 0)}`]),
    ],
    workers: flags.workers === undefined ? undefined : whole("--workers", flags.workers, 0),
  };
}

/** Where a training writes: what is asked for, else a new folder beside the weights' run, or in runs/. */
export function fitFolder(kind: string, { out }: Pick<FitFlags, "out">, weights: string | undefined): string {
  if (out !== undefined) return out;
  const name = `${kind}-${stamp(new Date())}`;
  if (weights === undefined) return join("runs", name);
  const folder = dirname(weights);
  return ["export", "checkpoints"].includes(basename(folder)) ? join(dirname(folder), name) : join("runs", name);
}

/** Progress to standard error, unless it is to be quiet. */
export async function fitReporter({ quiet = false }: Pick<FitFlags, "quiet">): Promise<Reporter> {
  const { silentReporter, streamReporter } = await import("../fit/index.js");
  return quiet ? silentReporter : streamReporter(process.stderr, { every: 10 });
}

/** The exit code of a training that ended. */
export const exitOf = ({ status }: Pick<FitResult, "status">): number => (status === "done" ? EXIT.done : EXIT.interrupted);
