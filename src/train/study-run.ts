// Runs a study: every arm with every seed, trained by `pretrain` and evaluated. It may be killed anywhere: what is done is in the folders,
// and the next call does the rest.
import { TesseraError } from "../errors.js";
import { readoutProblem } from "../evaluate/index.js";
import { removeTemporary } from "../files.js";
import {
  duration,
  listenForStop,
  NonFiniteError,
  type Reporter,
  RunError,
  secondsIn,
  silentReporter,
  versions,
} from "../fit/index.js";
import type { Encoder } from "../models/index.js";
import { readSafetensors, tidy } from "../torch/index.js";
import { thisMachine } from "./machine.js";
import { pretrain } from "./pretrain.js";
import type { Recipe } from "./recipe.js";
import { RunFolder } from "./run-folder.js";
import { createEncoder, freshEncoder } from "./session.js";
import { evaluationData, type Study } from "./study.js";
import { evaluateEncoder, type KindName, kindNames, kinds, settingsOf } from "./study-evaluate.js";
import { isCurrent, ResultFile } from "./study-folder.js";
import { type BaselineRun, planStudy, type Selection, type StudyPlan, type StudyRun } from "./study-plan.js";
import { makeReport, type StudyReport } from "./study-report.js";

export interface StudyOptions extends Selection {
  /** The study's folder. */
  out: string;
  /** Where progress goes. Default: nowhere. */
  reporter?: Reporter;
  /** What the report says it was made by. */
  command?: string;
}

export interface StudyOutcome {
  status: "done" | "interrupted";
  out: string;
  report: StudyReport;
}

/** What a signal throws through an evaluation. */
class Stopped extends Error {}

/**
 * Does what a study has left to do, then writes study.json, study.md and study.png. A run whose loss stops being finite is noted and the
 * study goes on; any other error ends it. SIGINT and SIGTERM leave a checkpoint.
 *
 * @throws RunError for what `planStudy` refuses, and for an arm whose method cannot be built
 */
export async function runStudy(study: Study, options: StudyOptions): Promise<StudyOutcome> {
  const { out, reporter = silentReporter, command } = options;
  const plan = await planStudy(study, out, options);
  buildAll(plan, study);
  const stop = new AbortController();
  const listener = listenForStop(() => stop.abort(new Stopped()));
  const report = () => makeReport(study, out, command);
  const how = { study, reporter, signal: stop.signal };
  try {
    for (const baseline of plan.baselines) await evaluateBaseline(baseline, how);
    const clock = new Clock(plan);
    for (const [i, run] of plan.runs.entries()) {
      how.signal.throwIfAborted();
      const head = `[${i + 1}/${plan.runs.length}] ${run.arm.label}, seed ${run.seed}`;
      const began = performance.now();
      if (await train(run, { ...how, head, left: clock.left(i) })) await evaluateRun(run, { ...how, head });
      clock.took(run, (performance.now() - began) / 1000);
      await report();
    }
    return { status: "done", out, report: await report() };
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    return { status: "interrupted", out, report: await report() };
  } finally {
    listener.release();
  }
}

interface How {
  study: Study;
  reporter: Reporter;
  signal: AbortSignal;
}

/** What cannot be built, and a read-out that no arm can give, is told of before the first run, not after hours. */
function buildAll({ runs }: StudyPlan, { evaluate }: Study): void {
  const arms = new Map(runs.flatMap((run) => (run.standing.state === "trained" ? [] : [[run.arm, run.recipe]])));
  const readouts = new Set(kindNames.flatMap((kind) => kinds[kind].readouts(evaluate)));
  const hindrances = new Map([...readouts].map((name) => [name, [] as string[]]));
  for (const [arm, recipe] of arms) {
    try {
      const encoder = freshEncoder(recipe);
      for (const [name, found] of hindrances) found.push(readoutProblem(name, encoder) ?? "");
      for (const kind of kindNames) kinds[kind].check?.(evaluate, encoder);
      encoder.dispose();
    } catch (error) {
      if (!(error instanceof TesseraError)) throw error;
      throw new RunError(`arm "${arm.name}": ${error.message}`, { cause: error });
    }
  }
  for (const [name, found] of hindrances) {
    if (found.length > 0 && !found.includes("")) throw new RunError(`no arm can give the read-out ${name}: ${found[0]}`);
  }
}

/** Trains what is left to train. False where the run's loss stopped being finite, now or before. */
async function train(run: StudyRun, { reporter, head, left }: How & { head: string; left: string }): Promise<boolean> {
  const { folder, recipe, standing } = run;
  const file = new ResultFile(folder);
  if (standing.state === "trained") return true;
  const { failed } = file.read();
  if (failed !== undefined) {
    reporter.line(`${head}: failed before (${failed}); remove ${folder} to try again`);
    return false;
  }
  const resume = standing.state === "begun";
  reporter.line(`${head}: ${resume ? `going on at step ${standing.step} of` : "training,"} ${run.steps} steps${left}`);
  try {
    const { status, step } = await pretrain(recipe, { out: folder, resume, reporter });
    if (status === "interrupted") throw new Stopped();
    const seconds = secondsIn(new RunFolder(folder).metrics.read());
    const trained = { step, seconds, at: now(), machine: thisMachine(), versions: versions() };
    file.write({ ...file.read(), trained });
    return true;
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    reporter.line(`${head}: failed: ${error.message}`);
    file.write({ ...file.read(), failed: error.message });
    return false;
  }
}

const now = () => new Date().toISOString();

async function evaluateRun(run: StudyRun, how: How & { head: string }): Promise<void> {
  const encoder = () => {
    const made = createEncoder(run.recipe);
    tidy(() => made.loadWeights(readSafetensors(new RunFolder(run.folder).exportPath).tensors));
    return made;
  };
  await evaluate({ folder: run.folder, recipe: run.recipe, encoder }, how);
}

async function evaluateBaseline(baseline: BaselineRun, how: How): Promise<void> {
  const { kind, label, seed, folder, recipe } = baseline;
  const head = seed === undefined ? label : `${label}, seed ${seed}`;
  const encoder = () => freshEncoder(recipe);
  await evaluate({ folder, recipe, ...(kind === "random" && { encoder }) }, { ...how, head });
}

/** Makes those evaluations of an encoder, or of raw pixels where there is none, that are not there yet. */
async function evaluate(
  { folder, recipe, encoder: make }: { folder: string; recipe: Recipe; encoder?: () => Encoder },
  { study, reporter, signal, head }: How & { head: string },
): Promise<void> {
  const file = new ResultFile(folder);
  const data = evaluationData(recipe, study.evaluate);
  const subject = make ? "encoder" : "pixels";
  const settings = (kind: KindName) => settingsOf(kind, { data, model: recipe.model, evaluate: study.evaluate, subject });
  const { evaluations } = file.read();
  const wanted = kindNames.filter((kind) => settings(kind) && !isCurrent(evaluations[kind], settings(kind)));
  if (wanted.length === 0) return;
  removeTemporary(folder);
  signal.throwIfAborted();
  reporter.line(`${head}: evaluating (${wanted.join(", ")})`);
  const encoder = make?.();
  try {
    await evaluateEncoder({
      encoder,
      data,
      evaluate: study.evaluate,
      wanted,
      workers: recipe.train.workers,
      signal,
      onResult: (kind, made) => {
        const result = file.read();
        const evaluation = { settings: settings(kind), ...made, at: now() };
        file.write({ ...result, evaluations: { ...result.evaluations, [kind]: evaluation } });
      },
    });
  } finally {
    encoder?.dispose();
  }
}

/** How long it will take, as soon as one run has told how fast steps are. */
class Clock {
  readonly #runs: readonly StudyRun[];
  /** Seconds a step, by arm. */
  readonly #rates = new Map<string, number>();

  constructor({ runs }: StudyPlan) {
    this.#runs = runs;
    for (const { arm, folder, steps, standing } of runs) {
      if (standing.state !== "trained") continue;
      const { trained, evaluations } = new ResultFile(folder).read();
      const evaluating = Object.values(evaluations).reduce((sum, { seconds }) => sum + seconds, 0);
      if (trained) this.#rates.set(arm.name, (trained.seconds + evaluating) / steps);
    }
  }

  took({ arm, steps, standing }: StudyRun, seconds: number): void {
    const done = steps - standing.step;
    if (done > 0) this.#rates.set(arm.name, seconds / done);
  }

  /** `, about 2 h 05 min left for everything` from run `i` on; empty as long as nothing is known. */
  left(i: number): string {
    const rates = [...this.#rates.values()];
    if (rates.length === 0) return "";
    const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
    const seconds = this.#runs
      .slice(i)
      .reduce((sum, { arm, steps, standing }) => sum + (steps - standing.step) * (this.#rates.get(arm.name) ?? mean), 0);
    return `, about ${duration(seconds)} left for the whole study`;
  }
}
