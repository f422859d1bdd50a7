// `--out DIR` of the evaluations by classes: what came out as files.
import { mkdirSync } from "node:fs";
import type { Command } from "commander";
import type { Confusion } from "../evaluate/index.js";
import { UsageError } from "./errors.js";
import { say } from "./output.js";

export function outOption(command: Command): Command {
  return command
    .option(
      "-o, --out <folder>",
      "write the result, the confusion matrix and each class's accuracy there, with pictures; what is done is kept there meanwhile",
    )
    .option("--resume", "go on with the evaluation in --out that was interrupted");
}

/** Makes the folder before hours of work. */
export function openOut(out: string | undefined): void {
  if (out === undefined) return;
  try {
    mkdirSync(out, { recursive: true });
  } catch (cause) {
    throw new UsageError(`--out is ${out}, which cannot be a folder: ${(cause as Error).message}`, { cause });
  }
}

export interface Report {
  /** Such as `k-NN of runs/mine`. */
  title: string;
  names: readonly string[];
  confusion: Confusion;
  /** What `--json` prints. */
  result: unknown;
}

/** Writes what was asked for. */
export async function writeReport(out: string | undefined, report: Report, quiet: boolean): Promise<void> {
  if (out === undefined) return;
  const { writeClassReport } = await import("../evaluate/index.js");
  await writeClassReport(out, report);
  if (!quiet) say(`written to ${out}: ${["result.json", "classes.json", "confusion.png", "classes.png"].join(", ")}`);
}
