// The loop of a supervised training (fine-tuning, segmentation, detection). A task says what is trained, on which batches, by which loss; this
// file does what all have in common: schedule, clipping, averaged weights, the log, checkpoints, signals, resume.
//
// As in pre-training, a process may be killed between any two lines: what comes after a checkpoint is done again, to the same bits.
import { basename } from "node:path";
import type { Module } from "../nn/index.js";
import { clipGradNorm, type Ema, NonFiniteGradientError, type Optimizer, type Schedule } from "../optim/index.js";
import { autocast, type Tensor, tidy } from "../torch/index.js";
import { listCheckpoints, newestCheckpoint, type Parts, readCheckpoint, setAside, writeCheckpoint } from "./checkpoint.js";
import { NonFiniteError, RunError } from "./errors.js";
import { FitFolder, type Settings } from "./folder.js";
import { lockRun } from "./lock.js";
import { type MetricsLine, secondsIn } from "./metrics-log.js";
import { duration, Pace, type Reporter, silentReporter } from "./progress.js";
import { listenForStop } from "./signals.js";
import { versions } from "./version.js";

/** Where a training stands: steps done, and the epoch of the step, both from 0. */
export interface FitProgress {
  step: number;
  epoch: number;
  totalSteps: number;
}

export type Scores = Record<string, number>;

/** One supervised training. */
export interface FitTask<B> {
  /** What is trained; its state dict is what a checkpoint keeps. */
  readonly model: Module;
  readonly optimizer: Optimizer;
  /** Learning rate by optimiser step; layer-wise decay is in the groups' `lrScale`. */
  readonly lr: Schedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  /** Images a step, for the progress line. */
  readonly batchSize: number;
  /** The batches of an epoch from a step of it on. They depend on their position alone, so that a resume sees the same ones. */
  batches(epoch: number, fromStep: number): AsyncGenerator<B, void, void>;
  /** Loss and its terms of one batch. Runs inside a scope, under autocast where asked; it may read the training's position. */
  step(batch: B, at: FitProgress): { loss: Tensor; terms: Readonly<Record<string, Tensor>> };
  /** Averaged weights, updated after every step with `emaDecay`, kept in checkpoints. */
  readonly ema?: Ema;
  /** Momentum of the average. Default 0.9999. */
  readonly emaDecay?: number;
  /** Largest global norm of the gradients. Default: they are not clipped. */
  readonly clip?: number;
  /** Measures the model, which is in evaluation mode; called after every `evaluateEvery` epochs and after the last one. */
  evaluate?(epoch: number): Promise<Scores>;
  /** Epochs between evaluations; 0 for the end alone. Default 0. */
  readonly evaluateEvery?: number;
  /** Ends what the batches need, such as worker threads. */
  close?(): Promise<void>;
}

export interface FitOptions {
  /** The folder of the training. */
  out: string;
  /** Go on with the training in `out`. Default false. */
  resume?: boolean;
  /** Everything that decides the result; a resume with other settings is refused. */
  settings: Settings;
  /** Default float32. */
  precision?: "float32" | "bfloat16";
  /** Default: nowhere. */
  reporter?: Reporter;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number;
  /** Steps between lines of the log. Default 10. */
  logEvery?: number;
}

export interface FitResult {
  out: string;
  status: "done" | "interrupted";
  step: number;
  epoch: number;
  /** Of the training steps, over all lives of the training. */
  seconds: number;
  /** Of the last evaluation. */
  scores: Scores;
}

/**
 * Trains until the task's end, or until SIGINT or SIGTERM, which leave a checkpoint.
 *
 * @throws RunError for a folder that cannot be used as asked, NonFiniteError when the loss or a gradient stops being finite
 */
export async function fitModel<B>(task: FitTask<B>, options: FitOptions): Promise<FitResult> {
  const { out, resume = false, settings } = options;
  const folder = resume ? FitFolder.resume(out, settings) : FitFolder.create(out, settings);
  const unlock = lockRun(out);
  try {
    return await new Fit(task, folder, options).run();
  } finally {
    await task.close?.();
    unlock();
  }
}

class Fit<B> {
  readonly #reporter: Reporter;
  readonly #parts: Parts;
  readonly #totalSteps: number;
  readonly #pace = new Pace();
  #step = 0;
  /** Of training steps, over all lives. */
  #seconds = 0;
  /** The log's line of the last evaluation. */
  #evaluated: MetricsLine | undefined;
  #saved = { step: -1, at: performance.now() };

  constructor(
    readonly task: FitTask<B>,
    readonly folder: FitFolder,
    readonly options: FitOptions,
  ) {
    const { model, ema, epochs, stepsPerEpoch } = task;
    this.#reporter = options.reporter ?? silentReporter;
    this.#totalSteps = epochs * stepsPerEpoch;
    this.#parts = { model: model.stateDict(), ...(ema && { average: ema.teacher.stateDict() }) };
  }

  async run(): Promise<FitResult> {
    const { folder } = this;
    const { epochs, stepsPerEpoch } = this.task;
    if (this.options.resume) this.#resume();
    const before = folder.metrics.read();
    this.#seconds = secondsIn(before);
    this.#evaluated = before.findLast(({ kind }) => kind === "scores");
    const stop = listenForStop((signal) =>
      this.#reporter.line(`${signal}: finishing this step and writing a checkpoint (again to quit at once)`),
    );
    try {
      // A training that was stopped right after an epoch's last step still has its evaluation to do.
      if (this.#step > 0 && this.#step % stepsPerEpoch === 0) await this.#endEpoch(this.#step / stepsPerEpoch - 1);
      while (this.#step < this.#totalSteps && !stop.requested()) {
        const epoch = Math.floor(this.#step / stepsPerEpoch);
        await this.#trainEpoch(epoch, stop.requested);
        if (this.#step % stepsPerEpoch === 0 && !stop.requested()) await this.#endEpoch(epoch);
      }
      this.#save();
    } finally {
      stop.release();
    }
    const [step, seconds] = [this.#step, this.#seconds];
    const done = step === this.#totalSteps && (!this.task.evaluate || this.#evaluated?.step === step);
    this.#reporter.line(
      done
        ? `done after ${duration(seconds)} of training: ${folder.path}`
        : `stopped at step ${step}; go on with --resume --out ${folder.path}`,
    );
    const epoch = Math.min(epochs, Math.max(1, Math.ceil(step / stepsPerEpoch))) - 1;
    const scores = (this.#evaluated?.scores ?? {}) as Scores;
    return { out: folder.path, status: done ? "done" : "interrupted", step, epoch, seconds, scores };
  }

  /** The rest of an epoch, or what of it is done before the process is asked to stop. */
  async #trainEpoch(epoch: number, stopping: () => boolean): Promise<void> {
    const { task } = this;
    const end = (epoch + 1) * task.stepsPerEpoch;
    const batches = task.batches(epoch, this.#step - epoch * task.stepsPerEpoch);
    task.model.train();
    let started = performance.now();
    while (this.#step < end && !stopping()) {
      // Batches that are ready are promises already kept: without this turn of the event loop no signal would ever be heard.
      await new Promise((resolve) => setImmediate(resolve));
      const asked = performance.now();
      const next = await batches.next();
      if (next.done) throw new Error("internal: the batches of an epoch ended before its steps");
      const waitMs = performance.now() - asked;
      const values = this.#train(next.value, epoch);
      this.#step += 1;
      const now = performance.now();
      this.#pace.add({ ms: now - started, waitMs, images: task.batchSize });
      this.#seconds += (now - started) / 1000;
      started = now;
      this.#tell(values, epoch);
      if (now - this.#saved.at >= (this.options.checkpointMinutes ?? 5) * 60_000) this.#save();
    }
    await batches.return(undefined);
  }

  /** The evaluation, where it is due. It begins with a checkpoint, so that whoever has no patience for it loses nothing. */
  async #endEpoch(epoch: number): Promise<void> {
    const { task, folder } = this;
    const { evaluateEvery = 0 } = task;
    const due = this.#step === this.#totalSteps || (evaluateEvery > 0 && (epoch + 1) % evaluateEvery === 0);
    if (!task.evaluate || !due || this.#evaluated?.step === this.#step) return;
    this.#save();
    task.model.eval();
    const scores = await task.evaluate(epoch);
    this.#evaluated = { kind: "scores", step: this.#step, epoch, scores };
    folder.metrics.append(this.#evaluated);
    this.#reporter.line(`after epoch ${epoch + 1}: ${describe(scores)}`);
  }

  /** One optimiser step; the loss, its terms and the norm of the gradients where the log wants them. */
  #train(batch: B, epoch: number): Scores {
    const { task } = this;
    const { optimizer } = task;
    const at = { step: this.#step, epoch, totalSteps: this.#totalSteps };
    optimizer.lr = task.lr(this.#step);
    return tidy(() => {
      const forward = () => task.step(batch, at);
      const { loss, terms } = this.options.precision === "bfloat16" ? autocast({ dtype: "bfloat16" }, forward) : forward();
      const value = loss.item();
      if (!Number.isFinite(value)) this.#fail(brokenTerm(value, terms));
      loss.backward();
      let gradientNorm: number;
      try {
        const most = task.clip ?? Number.POSITIVE_INFINITY;
        gradientNorm = clipGradNorm(optimizer.parameters, most, { errorIfNonFinite: true, names: optimizer.names }).item();
      } catch (error) {
        if (!(error instanceof NonFiniteGradientError)) throw error;
        this.#fail(`the gradient of ${error.names.slice(0, 3).join(", ")} is not finite`);
      }
      optimizer.step();
      optimizer.zeroGrad();
      task.ema?.update(task.emaDecay ?? 0.9999);
      if (!this.#logs(this.#step + 1)) return { loss: value };
      const read = Object.entries(terms).map(([name, tensor]) => [name, tensor.item()]);
      return { loss: value, ...Object.fromEntries(read), gradientNorm };
    });
  }

  #logs(step: number): boolean {
    return step === 1 || step % (this.options.logEvery ?? 10) === 0 || step === this.#totalSteps;
  }

  #tell(values: Scores, epoch: number): void {
    const { epochs, optimizer } = this.task;
    const { imagesPerSecond, dataWait, stepMs } = this.#pace;
    const [step, totalSteps, seconds] = [this.#step, this.#totalSteps, this.#seconds];
    const secondsLeft = ((totalSteps - step) * stepMs) / 1000;
    this.#reporter.progress({ step, totalSteps, epoch, epochs, loss: values.loss!, imagesPerSecond, dataWait, secondsLeft });
    if (!this.#logs(step)) return;
    this.folder.metrics.append({ kind: "step", step, epoch, ...values, lr: optimizer.lr, imagesPerSecond, dataWait, seconds });
  }

  #save(): void {
    if (this.#saved.step === this.#step) return;
    const { folder, task } = this;
    folder.metrics.sync();
    const position = { step: this.#step, epoch: Math.floor(this.#step / task.stepsPerEpoch) };
    writeCheckpoint(folder.checkpoints, {
      parts: this.#parts,
      optimizer: task.optimizer,
      position,
      metadata: { ...versions() },
      keep: 1,
    });
    this.#saved = { step: this.#step, at: performance.now() };
  }

  #resume(): void {
    const { folder, task } = this;
    const { newest, damaged } = newestCheckpoint(folder.checkpoints);
    if (!newest && damaged.length > 0) {
      throw new RunError(
        `${folder.path} has no checkpoint that can be read: ${damaged.map(({ error }) => error.message).join("; ")}`,
      );
    }
    folder.metrics.rewind(newest?.step ?? 0);
    if (!newest) {
      this.#reporter.line("no checkpoint yet: starting at the beginning");
      return;
    }
    for (const { path, error } of damaged) {
      this.#reporter.line(`warning: ${error.message}; going on from step ${newest.step}, it is now ${basename(setAside(path))}`);
    }
    this.#step = readCheckpoint(newest.path, { parts: this.#parts, optimizer: task.optimizer }).step;
    this.#saved.step = this.#step;
    this.#reporter.line(`resuming at step ${this.#step} of ${this.#totalSteps}`);
  }

  #fail(what: string): never {
    const last = listCheckpoints(this.folder.checkpoints).at(-1);
    const good = last ? `${last.path} is the last good checkpoint` : "there is no checkpoint yet";
    throw new NonFiniteError(
      `${what} at step ${this.#step + 1}; nothing was updated and ${good}. Try a lower learning rate, or float32`,
    );
  }
}

function brokenTerm(loss: number, terms: Readonly<Record<string, Tensor>>): string {
  for (const [name, term] of Object.entries(terms)) {
    const value = term.item();
    if (!Number.isFinite(value)) return `the loss term "${name}" is ${value}`;
  }
  return `the loss is ${loss}`;
}

const describe = (scores: Scores) =>
  Object.entries(scores)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(", ");
