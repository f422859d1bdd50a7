// metrics.jsonl: one JSON object a line, appended as the run goes; a resumed run first forgets the lines after its checkpoint.
import { appendFileSync, closeSync, existsSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { replaceText } from "../files.js";
import { RunError } from "./errors.js";

export interface MetricsLine {
  /** What the line is about: a training step, an evaluation, a warning. */
  kind: "step" | "knn" | "scores" | "warning";
  step: number;
  epoch: number;
  [key: string]: unknown;
}

export class MetricsLog {
  constructor(readonly path: string) {}

  /** Drops the lines of steps that a resumed run will do again, and a last line that was cut off. */
  rewind(step: number): void {
    if (!existsSync(this.path)) return;
    const kept = this.read().filter((line) => line.step <= step);
    replaceText(this.path, kept.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  /** Numbers that are not finite, which JSON lacks, are written as text: `"NaN"`. */
  append(line: MetricsLine): void {
    const text = JSON.stringify(line, (_, value) =>
      typeof value === "number" && !Number.isFinite(value) ? String(value) : value,
    );
    try {
      appendFileSync(this.path, `${text}\n`);
    } catch (cause) {
      throw new RunError(
        `the log of step ${line.step} was not written: ${this.path}: ${(cause as Error).message}. Make room for it, then go on from the newest checkpoint with --resume`,
        { cause },
      );
    }
  }

  /** Waits until all lines are on the disk: a checkpoint must not outlive the lines before it. */
  sync(): void {
    if (!existsSync(this.path)) return;
    const handle = openSync(this.path, "r+");
    try {
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
  }

  /** All whole lines. */
  read(): MetricsLine[] {
    if (!existsSync(this.path)) return [];
    return readFileSync(this.path, "utf8")
      .split("\n")
      .flatMap((text) => {
        try {
          return text === "" ? [] : [JSON.parse(text) as MetricsLine];
        } catch {
          return [];
        }
      });
  }
}

/** How long the steps of a log took, over all lives of its run; evaluations and pictures are not counted. */
export function secondsIn(lines: readonly MetricsLine[]): number {
  return Number(lines.findLast(({ kind }) => kind === "step")?.seconds ?? 0);
}
