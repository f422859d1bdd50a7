// What is kept when a step produces a number that is not finite: the batch, the weights before the step and the generator, in one file
// from which the step can be run again.
import { join } from "node:path";
import type { Batch } from "../data/index.js";
import type { Method, Progress, StepResult } from "../methods/index.js";
import { fromTypedArray, readSafetensors, setRngState, type Tensor, tidy, writeSafetensors } from "../torch/index.js";
import { copyInto } from "./checkpoint.js";

/** Names of the values that are not finite: the loss's terms first, since they say where it began. */
export function nonFinite(values: Readonly<Record<string, number>>): string[] {
  return Object.entries(values).flatMap(([name, value]) => (Number.isFinite(value) ? [] : [name]));
}

/** Writes the capture and returns its path. `rng` is the generator's state before the step. */
export function writeCapture(
  folder: string,
  { method, batch, rng, at }: { method: Method; batch: Batch; rng: Tensor; at: Progress },
): string {
  const path = join(folder, "captures", `step-${at.step}.safetensors`);
  const tensors = new Map<string, Tensor>([["rng.default", rng]]);
  for (const [name, tensor] of Object.entries(batch.views)) tensors.set(`batch.${name}`, tensor);
  for (const [name, tensor] of method.state()) tensors.set(`method.${name}`, tensor);
  tidy(() => {
    tensors.set("index", fromTypedArray(batch.index));
    writeSafetensors(path, tensors, { at: JSON.stringify(at) });
  });
  return path;
}

/** Runs a captured step again: loads weights, generator and batch, and returns what the method's step gives. Call it inside a scope. */
export function replayCapture(path: string, method: Method): { result: StepResult; at: Progress } {
  const { tensors, metadata } = readSafetensors(path);
  const pick = (prefix: string) =>
    new Map(
      [...tensors].flatMap(([name, tensor]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), tensor] as const] : [])),
    );
  copyInto(method.state(), pick("method."), path);
  setRngState(tensors.get("rng.default")!);
  const at = { ...(JSON.parse(metadata.at!) as Progress), report: true };
  const index = Int32Array.from(tensors.get("index")!.toArray());
  return { result: method.step({ views: Object.fromEntries(pick("batch.")), index }, at), at };
}
