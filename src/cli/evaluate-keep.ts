// `--out DIR` of the evaluations of a frozen encoder also keeps what is done in DIR/unfinished, so that `--resume` goes on after a kill.
import { statSync } from "node:fs";
import { join } from "node:path";
import type { KeepOptions } from "../evaluate/index.js";
import { UsageError } from "./errors.js";
import { openOut } from "./evaluate-report.js";
import { described, type Subject } from "./evaluate-subject.js";

export interface KeepFlags {
  out?: string;
  resume?: boolean;
}

/** What an evaluation was begun with: a resume with anything else is refused by name. */
type Begun = Readonly<Record<string, unknown>>;

export function checkKeep({ out, resume }: KeepFlags): void {
  if (resume && out === undefined) throw new UsageError("--resume needs the folder of the evaluation: --out DIR");
}

/**
 * Runs an evaluation that keeps what is done in --out, where that is given. What is kept goes when `run` is through, which includes the
 * writing of its result.
 */
export async function keepingIn(
  { out, resume = false }: KeepFlags,
  { subject, begun }: { subject: Subject; begun: Begun },
  run: (keep: KeepOptions | undefined) => Promise<void>,
): Promise<void> {
  openOut(out);
  if (out === undefined) return await run(undefined);
  const [{ removeKept }, { FitFolder, lockRun }] = await Promise.all([import("../evaluate/index.js"), import("../fit/index.js")]);
  const { weights } = subject;
  // Features of one file and of the next under its name must not be mixed.
  const written = weights && statSync(weights.file).mtime.toISOString();
  const settings = { ...described(subject), written, ...begun };
  const keep = { folder: join(out, "unfinished") };
  if (resume) FitFolder.resume(keep.folder, settings);
  else FitFolder.create(keep.folder, settings);
  const unlock = lockRun(keep.folder);
  try {
    await run(keep);
    removeKept(keep);
  } finally {
    unlock();
  }
}
