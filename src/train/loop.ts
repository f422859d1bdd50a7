// The training loop. One optimiser step is: views from the loader, the method's forward pass, backward, clipping, the update, the
// method's own aftermath (EMA, centre). Around it: schedules, the log, checkpoints, evaluation, signals.
import type { Loader, RawBatch } from "../data/index.js";
import { toTensors } from "../data/index.js";
import type { Progress, StepResult } from "../methods/index.js";
import { clipGradNorm, clipGradNormPerTensor } from "../optim/index.js";
import { autocast, getRngState, type Tensor, tidy } from "../torch/index.js";
import { nonFinite, writeCapture } from "./capture.js";
import { linkCheckpoint, saveCheckpoint } from "./checkpoint.js";
import { NonFiniteError } from "./errors.js";
import { CollapseMonitor } from "./monitors.js";
import { createOnlineKnn, runKnn } from "./online-knn.js";
import { drawRun } from "./pictures.js";
import { Pace, type Reporter } from "./progress.js";
import type { RunFolder } from "./run-folder.js";
import { createTrainLoader, type Session } from "./session.js";

/** What one step measured. */
interface StepNumbers {
  loss: number;
  gradientNorm: number;
  values: Record<string, number>;
}

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
  step: number;
  epoch: number;
  finished: boolean;
  lastKnn?: Record<string, number>;
  bestKnn?: number;
}

export async function trainLoop(options: LoopOptions): Promise<LoopResult> {
  const { session, folder, startStep, metadata, reporter, stopping } = options;
  const { recipe, method, optimizer, schedules, stepsPerEpoch, totalSteps } = session;
  const { accumulate, logEvery, epochs } = recipe.train;
  const monitor = new CollapseMonitor(method.trivialLevels ?? []);
  const pace = new Pace();
  const result: LoopResult = { step: startStep, epoch: Math.floor(startStep / stepsPerEpoch), finished: startStep >= totalSteps };
  let saved = { step: startStep, at: performance.now() };

  const save = () => {
    const position = { step: result.step, epoch: Math.floor(result.step / stepsPerEpoch) };
    const path = saveCheckpoint(folder.checkpoints, { method, optimizer, position, metadata, keep: recipe.checkpoint.keep });
    saved = { step: result.step, at: performance.now() };
    return path;
  };
  const warn = (at: Progress, text: string) => {
    reporter.line(`warning: ${text}`);
    folder.metrics.append({ kind: "warning", step: at.step + 1, epoch: at.epoch, text });
  };

  const firstEpoch = Math.floor(startStep / stepsPerEpoch);
  const loader = createTrainLoader(session, { epoch: firstEpoch, batch: (startStep % stepsPerEpoch) * accumulate });
  const knn = await createOnlineKnn(recipe);
  let bad = 0;
  try {
    for (let epoch = firstEpoch; result.step < totalSteps && !stopping(); epoch++) {
      result.epoch = epoch;
      const batches = loader.epoch(epoch, (result.step - epoch * stepsPerEpoch) * accumulate);
      let started = performance.now();
      while (result.step < Math.min(totalSteps, (epoch + 1) * stepsPerEpoch) && !stopping()) {
        // Batches that are ready are promises already kept: without this turn of the event loop no signal would ever be heard.
        await new Promise((resolve) => setImmediate(resolve));
        const raws = await take(batches, accumulate);
        const waitMs = performance.now() - started;
        const report = (result.step + 1) % logEvery === 0 || result.step + 1 === totalSteps || result.step === 0;
        const at: Progress = { step: result.step, totalSteps, epoch, epochs, stepsPerEpoch, report };
        optimizer.lr = schedules.lr(at.step);
        optimizer.weightDecay = schedules.weightDecay(at.step);

        const numbers = trainStep(session, folder, raws, at);
        result.step += 1;

        const ms = performance.now() - started;
        started = performance.now();
        pace.add({ ms, waitMs, images: accumulate * recipe.train.batchSize });
        const { loss, gradientNorm, values } = numbers;
        const { imagesPerSecond, dataWait, stepMs } = pace;
        const secondsLeft = ((totalSteps - result.step) * stepMs) / 1000;
        reporter.progress({ step: result.step, totalSteps, epoch, epochs, loss, imagesPerSecond, dataWait, secondsLeft });
        if (report) {
          const { lr, weightDecay } = optimizer;
          folder.metrics.append({
            kind: "step",
            step: result.step,
            epoch,
            loss,
            ...values,
            gradientNorm,
            lr,
            weightDecay,
            imagesPerSecond,
            dataWait,
          });
          for (const text of monitor.look({ loss, ...values })) warn(at, text);
        }
        bad = tellBad(loader, bad, (text) => warn(at, text));
        const { everySteps, everyMinutes } = recipe.checkpoint;
        const due = (everySteps && result.step % everySteps === 0) || performance.now() - saved.at > everyMinutes * 60_000;
        if (due && result.step < totalSteps) save();
      }
      await batches.return(undefined);
      if (stopping()) break;

      const done = result.step >= totalSteps;
      if (knn && ((epoch + 1) % recipe.knn.everyEpochs === 0 || done)) {
        const top1 = await runKnn(knn, method.encoder, recipe);
        folder.metrics.append({ kind: "knn", step: result.step, epoch, top1 });
        result.lastKnn = top1;
        const top = top1[recipe.knn.k[0]!]!;
        reporter.line(
          `k-NN after epoch ${epoch + 1}: ${Object.entries(top1)
            .map(([k, value]) => `${value.toFixed(2)} % (k ${k})`)
            .join(", ")}`,
        );
        if (top > (result.bestKnn ?? -1)) {
          result.bestKnn = top;
          linkCheckpoint(save(), "best");
        }
      }
      if (recipe.pictures.everyEpochs > 0 && (epoch + 1) % recipe.pictures.everyEpochs === 0 && !done) {
        await drawRun(session, folder, `epoch-${String(epoch + 1).padStart(4, "0")}`);
      }
    }
  } finally {
    await loader.close();
    await knn?.close();
  }
  result.finished = result.step >= totalSteps;
  if (saved.step !== result.step || result.step === startStep) save();
  return result;
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

function tellBad(loader: Loader, before: number, tell: (text: string) => void): number {
  const { count, files } = loader.bad;
  for (const { path, index, reason } of files.slice(before, Math.min(count, before + 5)))
    tell(`skipped ${path ?? `sample ${index}`}: ${reason}`);
  if (count > before + 5) tell(`skipped ${count - before - 5} more images`);
  return count;
}

/** One optimiser step over one or more accumulated batches. */
function trainStep(session: Session, folder: RunFolder, raws: readonly RawBatch[], at: Progress): StepNumbers {
  const { recipe, method, optimizer } = session;
  return tidy(() => {
    let loss = 0;
    const values: Record<string, number> = {};
    for (const raw of raws) {
      const rng = getRngState();
      const batch = toTensors(raw, method.views);
      const forward = () => method.step(batch, at);
      const result = recipe.train.precision === "bfloat16" ? autocast({ dtype: "bfloat16" }, forward) : forward();
      const numbers = readNumbers(result, at.report);
      const broken = nonFinite(numbers);
      if (broken.length > 0) {
        const path = writeCapture(folder.path, { method, batch, rng, at });
        throw new NonFiniteError(
          `${describeBroken(result, numbers)} at step ${at.step + 1}; ${path} holds the batch and the weights to replay it`,
        );
      }
      (raws.length > 1 ? result.loss.div(raws.length) : result.loss).backward();
      for (const [name, value] of Object.entries(numbers)) {
        if (name === "loss") loss += value / raws.length;
        else values[name] = (values[name] ?? 0) + value / raws.length;
      }
    }
    const gradientNorm = clip(recipe.optimizer.clip, optimizer.parameters);
    if (!Number.isFinite(gradientNorm)) {
      const names = optimizer.names.filter((_, i) => optimizer.parameters[i]!.grad?.isFinite().all().item() === 0);
      throw new NonFiniteError(
        `the gradient of ${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more parameters` : ""} is not finite at step ${at.step + 1}; nothing was updated, the last checkpoint is good`,
      );
    }
    method.beforeUpdate?.(at);
    optimizer.step();
    optimizer.zeroGrad();
    method.afterStep(at);
    return { loss, gradientNorm, values };
  });
}

/** Loss, terms and metrics as numbers. Terms and metrics are read on logged steps, or when the loss is not finite. */
function readNumbers(result: StepResult, report: boolean): Record<string, number> {
  const loss = result.loss.item();
  if (!report && Number.isFinite(loss)) return { loss };
  const read = (tensors: Record<string, Tensor>) =>
    Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.item()]));
  return { loss, ...read(result.terms), ...read(result.metrics ?? {}) };
}

function describeBroken(result: StepResult, numbers: Record<string, number>): string {
  const term = Object.keys(result.terms).find((name) => !Number.isFinite(numbers[name]));
  const name = term ?? nonFinite(numbers)[0]!;
  return `the ${term ? "loss term" : "value"} "${name}" is ${numbers[name]}`;
}

/** Clips as the recipe says and returns the norm of all gradients before it. */
function clip({ kind, maxNorm }: Session["recipe"]["optimizer"]["clip"], parameters: readonly Tensor[]): number {
  if (kind === "per-tensor") return clipGradNormPerTensor(parameters, maxNorm).norm().item();
  return clipGradNorm(parameters, kind === "global" ? maxNorm : Number.POSITIVE_INFINITY).item();
}
