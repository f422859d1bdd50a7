// One run from a recipe to a folder: new, resumed, or started from weights.
import { basename, resolve } from "node:path";
import {
  duration,
  listenForStop,
  lockRun,
  newestCheckpoint,
  type Reporter,
  RunError,
  setAside,
  silentReporter,
  tesseraVersion,
  versions,
} from "../fit/index.js";
import { encoderTensors } from "../models/index.js";
import { getNumThreads, readSafetensors, setNumThreads, tidy } from "../torch/index.js";
import { loadCheckpoint } from "./checkpoint.js";
import { exportMethod } from "./export.js";
import { trainLoop } from "./loop.js";
import { drawRun } from "./pictures.js";
import type { Recipe } from "./recipe.js";
import { RunFolder } from "./run-folder.js";
import { createSession, type Session } from "./session.js";

export interface PretrainOptions {
  /** The run's folder. */
  out: string;
  /** Go on with the run in `out`. Default false. */
  resume?: boolean;
  /** Start a new run from the encoder weights in this safetensors file. */
  initFrom?: string;
  /** Where progress goes. Default: nowhere. */
  reporter?: Reporter;
}

export interface RunSummary {
  out: string;
  status: "done" | "interrupted";
  step: number;
  epoch: number;
  seconds: number;
  /** k-NN top-1 (percent) by k, of the last online evaluation. */
  knn?: Record<string, number>;
  /** The exported encoder, or what the method makes instead. */
  export: string;
  pictures: string[];
}

/** Trains until the recipe's end, or until SIGINT or SIGTERM, which leave a checkpoint. */
export async function pretrain(recipe: Recipe, options: PretrainOptions): Promise<RunSummary> {
  const { out, resume = false, initFrom } = options;
  if (resume && initFrom)
    throw new RunError("a run is either resumed or started from weights: give --resume or --init-from, not both");
  const started = performance.now();
  if (recipe.train.threads) setNumThreads(recipe.train.threads);
  if (resume) RunFolder.open(out).checkSame(recipe);
  // What cannot be built leaves no folder behind.
  const session = await createSession(recipe);
  if (initFrom) initSession(session, initFrom);
  const record = { versions: versions(), ...(initFrom && { initFrom: resolve(initFrom) }), recipe };
  const folder = resume ? RunFolder.open(out) : RunFolder.create(out, record);
  const unlock = lockRun(out);
  try {
    return await runIn(folder, session, options, started);
  } finally {
    unlock();
  }
}

/** The run itself, once its folder is there and belongs to this process. */
async function runIn(folder: RunFolder, session: Session, options: PretrainOptions, started: number): Promise<RunSummary> {
  const { out, resume = false, reporter = silentReporter } = options;
  const { recipe } = session;
  const startStep = resume ? resumeSession(session, folder, reporter) : 0;
  describe(session, folder, startStep, reporter);

  const stop = listenForStop((signal) =>
    reporter.line(`${signal}: finishing this step and writing a checkpoint (again to quit at once)`),
  );
  try {
    const metadata = { ...versions(), method: session.method.name };
    const result = await trainLoop({ session, folder, startStep, metadata, reporter, stopping: stop.requested });
    const exported = exportMethod(folder, session.method, recipe, result, tesseraVersion);
    const pictures = result.finished ? await drawRun(session, folder, "final") : [];
    const seconds = (performance.now() - started) / 1000;
    const status = result.finished ? "done" : "interrupted";
    reporter.line(
      result.finished
        ? `done after ${duration(seconds)}: ${resolve(out)}`
        : `stopped at step ${result.step}; go on with --resume --out ${out}`,
    );
    const { step, epoch, lastKnn } = result;
    return { out, status, step, epoch, seconds, ...(lastKnn ? { knn: lastKnn } : {}), export: exported, pictures };
  } finally {
    stop.release();
  }
}

/** Brings a session to where its folder's newest checkpoint stands; returns the steps done. */
function resumeSession(session: Session, folder: RunFolder, reporter: Reporter): number {
  folder.sweep();
  const { newest, damaged } = newestCheckpoint(folder.checkpoints);
  if (!newest && damaged.length > 0) {
    throw new RunError(
      `${folder.path} has no checkpoint that can be read: ${damaged.map(({ error }) => error.message).join("; ")}. Start the run again in another folder`,
    );
  }
  if (!newest) {
    const { initFrom } = folder.read();
    if (initFrom) initSession(session, initFrom);
    folder.metrics.rewind(0);
    reporter.line("no checkpoint yet: starting at the beginning");
    return 0;
  }
  for (const { path, error } of damaged) {
    reporter.line(`warning: ${error.message}; going on from step ${newest.step} instead, it is now ${basename(setAside(path))}`);
  }
  const now = versions();
  if (newest.metadata.libtorch !== now.libtorch) {
    reporter.line(
      `warning: the run used libtorch ${newest.metadata.libtorch}, this is ${now.libtorch}: numbers will not be the same to the last bit`,
    );
  }
  const { step } = loadCheckpoint(newest.path, session);
  folder.metrics.rewind(step);
  const complete = step >= session.totalSteps ? ": all its steps are done, there is nothing left to train" : "";
  reporter.line(`resuming at step ${step} from ${newest.path}${complete}`);
  return step;
}

function initSession({ method }: Session, path: string): void {
  tidy(() => {
    const { tensors } = readSafetensors(path);
    method.initEncoder(method.encoder ? encoderTensors(tensors).own : tensors);
  });
}

function describe(session: Session, folder: RunFolder, startStep: number, reporter: Reporter): void {
  const { recipe, dataset, method, stepsPerEpoch, totalSteps, peakLr } = session;
  const { batchSize, accumulate, precision } = recipe.train;
  const millions = (count: number) => `${(count / 1e6).toFixed(2)} M`;
  const encoder = method.encoder ? `encoder ${millions(method.encoder.parameterCount)} parameters, ` : "";
  const scaling = recipe.optimizer.lrScaling === "none" ? "" : ` (${recipe.optimizer.lr} x ${batchSize * accumulate}/256)`;
  reporter.line(
    [
      `${method.name} on ${dataset.name}: ${dataset.length} images, ${totalSteps} steps of ${batchSize * accumulate}, ${stepsPerEpoch} an epoch`,
      `${encoder}trained in all ${millions(method.trainable.parameterCount)} parameters`,
      `peak learning rate ${peakLr.toPrecision(3)}${scaling}, ${precision}, ${getNumThreads()} threads, libtorch ${versions().libtorch}`,
      `run folder ${folder.path}${startStep > 0 ? `, step ${startStep}` : ""}`,
    ].join("\n"),
  );
}
