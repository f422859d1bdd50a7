// metrics.jsonl: one JSON object a line, appended as the run goes; a resumed run first forgets the lines after its checkpoint.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { replaceText } from "../files.js";

export interface MetricsLine {
  /** What the line is about: a training step, an evaluation, a warning. */
  kind: "step" | "knn" | "warning";
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

  append(line: MetricsLine): void {
    appendFileSync(
      this.path,
      `${JSON.stringify(line, (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value))}\n`,
    );
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
