// What is kept when a step produces a number that is not finite: the batch, the weights before the step and the generator, in one file
// from which the step can be run again.
import { join } from "node:path";
import type { Batch } from "../data/index.js";
import { copyInto, listCheckpoints, NonFiniteError, RunError } from "../fit/index.js";
import type { Method, Progress, StepResult } from "../methods/index.js";
import {
  autocast,
  fromTypedArray,
  getRngState,
  noGrad,
  readSafetensors,
  setRngState,
  type Tensor,
  tidy,
  writeSafetensors,
} from "../torch/index.js";
import type { RunFolder } from "./run-folder.js";

type Precision = "float32" | "bfloat16";

/** What a forward pass changes, as it was: the default generator, and buffers such as batch norm's running statistics. */
interface Before {
  rng: Tensor;
  buffers: ReadonlyMap<string, Tensor>;
}

/** Stands by a run's steps, and keeps what is needed to replay one that fails. */
export class StepGuard {
  readonly #buffers: [string, Tensor][];

  constructor(
    readonly method: Method,
    /** Null for steps that belong to no run: then nothing is kept. */
    readonly folder: RunFolder | null,
    readonly precision: Precision,
  ) {
    this.#buffers = [...method.state()].filter(([, tensor]) => tensor.role !== "parameter");
  }

  /** Call it before a forward pass. The copies live in the caller's scope; they are small beside a batch. */
  before(): Before {
    return noGrad(() => ({
      rng: getRngState(),
      buffers: new Map(this.#buffers.map(([name, tensor]) => [name, tensor.clone()])),
    }));
  }

  /**
   * Ends the run. Nothing may have been updated since `before`.
   *
   * @param what such as `the loss term "restore" is NaN`
   */
  fail(what: string, step: { batch: Batch; at: Progress; before: Before }): never {
    if (!this.folder) throw new NonFiniteError(`${what} at step ${step.at.step + 1}; nothing was updated.`);
    const last = listCheckpoints(this.folder.checkpoints).at(-1);
    const good = last ? `${last.path} is the last good checkpoint` : "there is no checkpoint yet";
    let kept: string;
    let cause: unknown;
    try {
      kept = `${this.#write(this.folder, step)} holds the batch and the weights to replay it`;
    } catch (error) {
      cause = error;
      kept = `what is needed to replay it could not be kept: ${(error as Error).message}`;
    }
    throw new NonFiniteError(`${what} at step ${step.at.step + 1}; nothing was updated and ${good}. ${kept}`, { cause });
  }

  #write(folder: RunFolder, { batch, at, before }: { batch: Batch; at: Progress; before: Before }): string {
    const path = join(folder.captures, `step-${at.step + 1}.safetensors`);
    tidy(() => {
      const tensors = new Map([["rng.default", before.rng]]);
      tensors.set("index", fromTypedArray(batch.index));
      if (batch.labels) tensors.set("labels", fromTypedArray(batch.labels));
      for (const [name, tensor] of Object.entries(batch.views)) tensors.set(`batch.${name}`, tensor);
      for (const [name, tensor] of this.method.state()) tensors.set(`method.${name}`, before.buffers.get(name) ?? tensor);
      writeSafetensors(path, tensors, { at: JSON.stringify(at), precision: this.precision });
    });
    return path;
  }
}

/**
 * Runs a captured step again: loads weights, generator and batch, and returns what the method's step gives in the run's precision. The
 * method is one of the run's recipe (`createMethod`). Call it inside a scope; `result.loss.backward()` gives the gradients.
 */
export function replayCapture(path: string, method: Method): { result: StepResult; at: Progress } {
  const { tensors, metadata } = readSafetensors(path);
  const pick = (prefix: string) =>
    new Map(
      [...tensors].flatMap(([name, tensor]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), tensor] as const] : [])),
    );
  const [rng, rows, labels] = ["rng.default", "index", "labels"].map((name) => tensors.get(name));
  if (!rng || !rows || !metadata.at) throw new RunError(`${path} is no capture of a step: expected a file from captures/`);
  copyInto(method.state(), pick("method."), path);
  setRngState(rng);
  const at = { ...(JSON.parse(metadata.at) as Progress), report: true };
  const whole = (tensor: Tensor) => Int32Array.from(tensor.toArray());
  const batch: Batch = {
    views: Object.fromEntries(pick("batch.")),
    index: whole(rows),
    ...(labels && { labels: whole(labels) }),
  };
  const forward = () => method.step(batch, at);
  return { result: metadata.precision === "bfloat16" ? autocast({ dtype: "bfloat16" }, forward) : forward(), at };
}
