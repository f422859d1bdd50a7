// The folder of a study: ARM/seed-N is an ordinary run folder, with the outcome of its training and evaluations in result.json; baselines/
// has those of what needs no training; study.json, study.md and study.png are the report.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { replaceText } from "../files.js";
import { listCheckpoints, RunError, type Versions } from "../fit/index.js";
import type { Machine } from "./machine.js";
import { differingKeys, type Recipe } from "./recipe.js";
import { RunFolder } from "./run-folder.js";
import type { Measured } from "./study-evaluate.js";

/** What result.json holds. Its parts are there as soon as they are known. */
export interface StudyResult {
  /** The training, once it has come to its end. */
  trained?: {
    step: number;
    /** Of all lives of the run; evaluations and pictures are not counted. */
    seconds: number;
    /** When it ended, ISO 8601. */
    at: string;
    machine: Machine;
    versions: Versions;
  };
  /** Why the training ended before: a loss that was not finite. */
  failed?: string;
  /** Evaluations by kind: their settings, so that one with others is made again, and what came out. */
  evaluations: Record<string, Evaluation>;
}

export interface Evaluation {
  settings: unknown;
  measured: Measured;
  /** How many images were used. */
  images: { train: number; test: number };
  seconds: number;
  /** When it was made, ISO 8601. */
  at: string;
}

/** Whether an evaluation is there and was made with these settings. */
export function isCurrent(evaluation: Evaluation | undefined, settings: unknown): evaluation is Evaluation {
  return evaluation !== undefined && isDeepStrictEqual(evaluation.settings, JSON.parse(JSON.stringify(settings)));
}

export class ResultFile {
  readonly path: string;

  constructor(readonly folder: string) {
    this.path = join(folder, "result.json");
  }

  /** @throws RunError when there is a file that is none */
  read(): StudyResult {
    if (!existsSync(this.path)) return { evaluations: {} };
    try {
      const result = JSON.parse(readFileSync(this.path, "utf8")) as StudyResult;
      if (typeof result.evaluations === "object" && result.evaluations !== null) return result;
      throw new Error("it has no evaluations");
    } catch (cause) {
      throw new RunError(
        `${this.path} is not what a study writes: ${(cause as Error).message}. Remove it: what was measured is measured again`,
        { cause },
      );
    }
  }

  write(result: StudyResult): void {
    replaceText(this.path, `${JSON.stringify(result, null, 2)}\n`);
  }
}

/** Where a run of a study stands, by what is in its folder. */
export interface Standing {
  state: "to do" | "begun" | "trained";
  /** Steps that are done and saved. */
  step: number;
  /** Keys in which its recipe differs from the study's: its results are those of another study. */
  differs: string[];
}

export function standingOf(folder: string, recipe: Recipe): Standing {
  const run = new RunFolder(folder);
  if (!existsSync(run.recipePath)) return { state: "to do", step: 0, differs: [] };
  const differs = differingKeys(run.read().recipe, recipe);
  const { trained } = new ResultFile(folder).read();
  if (trained) return { state: "trained", step: trained.step, differs };
  return { state: "begun", step: listCheckpoints(run.checkpoints).at(-1)?.step ?? 0, differs };
}
