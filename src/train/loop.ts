// The training loop. One optimiser step is: views from the loader, the method's forward pass, backward, clipping, the update, the
// method's own aftermath (EMA, centre). Around it: schedules, the log, checkpoints, evaluation, signals.
//
// A run may be killed between any two lines here and go on from its newest checkpoint to the same result. So whatever comes after a
// checkpoint can be done again: metrics.jsonl forgets what is newer, and an epoch's evaluation writes its line last.
import type { Loader, RawBatch } from "../data/index.js";
import { checkpointPath, linkCheckpoint, type MetricsLine, Pace, type Reporter, secondsIn } from "../fit/index.js";
import { StepGuard } from "./capture.js";
import { saveCheckpoint } from "./checkpoint.js";
import { CollapseMonitor } from "./monitors.js";
import { createOnlineKnn, describeScores, runKnn, scoresIn } from "./online-knn.js";
import { drawRun } from "./pictures.js";
import type { RunFolder } from "./run-folder.js";
import { createTrainLoader, type Session } from "./session.js";
import { trainStep } from "./step.js";

export interface LoopOptions {
  session: Session;
  folder: RunFolder;
  /** Steps already done. */
  startStep: number;
  metadata: Record<string, string>;
  reporter: Reporter;
  /** Becomes true when the run is asked to stop. */
  stopping: () => boolean;
}

export interface LoopResult {
  /** Steps done. */
  step: number;
  /** The epoch of the last of them, from 0. */
  epoch: number;
  /** All steps are done, and what follows the last one too. */
  finished: boolean;
  /** k-NN top-1 in percent by k, of the last evaluation. */
  lastKnn?: Record<string, number>;
  /** The best top-1 for the first k. */
  bestKnn?: number;
}

export async function trainLoop(options: LoopOptions): Promise<LoopResult> {
  const { session, folder, startStep, metadata, reporter, stopping } = options;
  const { recipe, method, optimizer, schedules, stepsPerEpoch, totalSteps } = session;
  const { accumulate, logEvery, epochs, batchSize } = recipe.train;
  const firstEpoch = Math.floor(startStep / stepsPerEpoch);
  const before = folder.metrics.read();
  const result: LoopResult = {
    step: startStep,
    epoch: Math.max(0, Math.ceil(startStep / stepsPerEpoch) - 1),
    finished: false,
    ...scoresIn(before, recipe.knn.k[0]!),
  };
  const monitor = CollapseMonitor.after(before, method.trivialLevels ?? []);
  const guard = new StepGuard(method, folder, recipe.train.precision);
  const pace = new Pace();
  let seconds = secondsIn(before);
  let saved = { step: startStep > 0 ? startStep : -1, at: performance.now() };

  const save = () => {
    if (saved.step === result.step) return;
    const position = { step: result.step, epoch: Math.floor(result.step / stepsPerEpoch) };
    folder.metrics.sync();
    saveCheckpoint(folder.checkpoints, { method, optimizer, position, metadata, keep: recipe.checkpoint.keep });
    saved = { step: result.step, at: performance.now() };
  };
  const saveWhenDue = () => {
    const { everySteps, everyMinutes } = recipe.checkpoint;
    const bySteps = everySteps !== undefined && result.step % everySteps === 0;
    if (bySteps || (everyMinutes > 0 && performance.now() - saved.at >= everyMinutes * 60_000)) save();
  };
  const log = (kind: MetricsLine["kind"], values: Record<string, unknown>) =>
    folder.metrics.append({ kind, step: result.step, epoch: result.epoch, ...values });
  const warn = (text: string) => {
    reporter.line(`warning: ${text}`);
    log("warning", { text });
  };

  const knn = await createOnlineKnn(recipe, (text) => reporter.line(`warning: ${text}`));
  /** Whether the log, after a resume, already has the evaluation of this step. */
  const evaluated = (step: number) => before.some((line) => line.kind === "knn" && line.step === step);
  /** k-NN and pictures. They begin with a checkpoint, so that whoever has no patience for them loses nothing. */
  const endEpoch = async () => {
    const done = result.step === totalSteps;
    const due = (every: number) => every > 0 && (result.epoch + 1) % every === 0;
    if (knn && method.encoder && (done || due(recipe.knn.everyEpochs)) && !evaluated(result.step)) {
      save();
      const top1 = await runKnn(knn, method.encoder, recipe);
      const top = top1[recipe.knn.k[0]!]!;
      reporter.line(`k-NN after epoch ${result.epoch + 1}: ${describeScores(top1)}`);
      if (top > (result.bestKnn ?? -1)) {
        result.bestKnn = top;
        linkCheckpoint(checkpointPath(folder.checkpoints, result.step), "best");
      }
      result.lastKnn = top1;
      log("knn", { top1 });
    }
    if (!done && due(recipe.pictures.everyEpochs)) {
      await drawRun(session, folder, `epoch-${String(result.epoch + 1).padStart(4, "0")}`);
    }
    result.finished = done;
  };

  const loader = createTrainLoader(session, { epoch: firstEpoch, batch: (startStep % stepsPerEpoch) * accumulate });
  let bad = 0;
  try {
    // Where a run was stopped or killed right after the last step of an epoch, what follows that step is still to do.
    if (startStep > 0 && (startStep === totalSteps || startStep % stepsPerEpoch === 0)) await endEpoch();

    for (let epoch = firstEpoch; result.step < totalSteps && !stopping(); epoch++) {
      const end = Math.min(totalSteps, (epoch + 1) * stepsPerEpoch);
      const batches = loader.epoch(epoch, (result.step - epoch * stepsPerEpoch) * accumulate);
      result.epoch = epoch;
      let started = performance.now();
      while (result.step < end && !stopping()) {
        // Batches that are ready are promises already kept: without this turn of the event loop no signal would ever be heard.
        await new Promise((resolve) => setImmediate(resolve));
        const asked = performance.now();
        const raws = await take(batches, accumulate);
        const waitMs = performance.now() - asked;

        const step = result.step;
        const report = step === 0 || (step + 1) % logEvery === 0 || step + 1 === totalSteps;
        optimizer.lr = schedules.lr(step);
        optimizer.weightDecay = schedules.weightDecay(step);
        const { loss, gradientNorm, values } = trainStep(session, guard, raws, {
          step,
          totalSteps,
          epoch,
          epochs,
          stepsPerEpoch,
          report,
        });
        result.step += 1;

        const now = performance.now();
        pace.add({ ms: now - started, waitMs, images: accumulate * batchSize });
        seconds += (now - started) / 1000;
        started = now;
        const { imagesPerSecond, dataWait, stepMs } = pace;
        const secondsLeft = ((totalSteps - result.step) * stepMs) / 1000;
        reporter.progress({ step: result.step, totalSteps, epoch, epochs, loss, imagesPerSecond, dataWait, secondsLeft });
        if (report) {
          const { lr, weightDecay } = optimizer;
          log("step", { loss, ...values, gradientNorm, lr, weightDecay, imagesPerSecond, dataWait, seconds });
          for (const text of monitor.look({ loss, ...values })) warn(text);
        }
        bad = tellBad(loader, bad, warn);
        saveWhenDue();
      }
      await batches.return(undefined);
      if (result.step === end && !stopping()) await endEpoch();
    }
    save();
    return result;
  } finally {
    await loader.close();
    await knn?.close();
  }
}

async function take(batches: AsyncGenerator<RawBatch>, count: number): Promise<RawBatch[]> {
  const taken: RawBatch[] = [];
  while (taken.length < count) {
    const next = await batches.next();
    if (next.done) throw new Error("internal: the loader's epoch ended before the loop's");
    taken.push(next.value);
  }
  return taken;
}

/** Tells of the images that were skipped since `before`, the first few by name; returns how many there are now. */
function tellBad(loader: Loader, before: number, tell: (text: string) => void): number {
  const { count, files } = loader.bad;
  const named = files.slice(before, before + 5);
  for (const { path, index, reason } of named) tell(`skipped ${path ?? `sample ${index}`}: ${reason}`);
  const others = count - before - named.length;
  if (others > 0) tell(`skipped ${others} more images`);
  return count;
}
