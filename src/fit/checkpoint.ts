// Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.
//
//   PART.*        what is trained, in one part or several: a method's state(), a model's weights and their average
//   optimizer.*   moments
//   rng.default   the default generator
//
// The step, the optimiser's counters, the versions and the resolved recipe are in the metadata. A file is written under a temporary name,
// synced and renamed, so whatever carries a checkpoint's name is whole.
import { copyFileSync, linkSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { temporaryName } from "../files.js";
import type { Optimizer, OptimizerState } from "../optim/index.js";
import {
  elementSize,
  getRngState,
  noGrad,
  readSafetensors,
  readSafetensorsHeader,
  setRngState,
  type Tensor,
  tidy,
  writeSafetensors,
} from "../torch/index.js";
import { RunError } from "./errors.js";

/** Where a run stands when a checkpoint is written: `step` steps are done. */
export interface Position {
  step: number;
  epoch: number;
}

export interface CheckpointInfo extends Position {
  path: string;
  metadata: Record<string, string>;
}

const pattern = /^step-(\d{9})\.safetensors$/;
const nameOf = (step: number) => `step-${String(step).padStart(9, "0")}.safetensors`;

/** Checkpoints of a folder, oldest first. What a killed process left half-written has another name and is removed. */
export function listCheckpoints(folder: string): { step: number; path: string }[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .flatMap((name) => {
      const match = pattern.exec(name);
      return match ? [{ step: Number(match[1]), path: join(folder, name) }] : [];
    })
    .sort((a, b) => a.step - b.step);
}

/** Where the checkpoint of a step is. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, nameOf(step));
}

/** What is trained, by the names of its parts: the live tensors of each. */
export type Parts = Readonly<Record<string, ReadonlyMap<string, Tensor>>>;

export interface CheckpointState {
  parts: Parts;
  optimizer: Optimizer;
  position: Position;
  metadata: Record<string, string>;
  /** How many checkpoints stay. */
  keep: number;
}

/**
 * Writes a checkpoint and removes all but the newest `keep`. Returns its path.
 *
 * @throws RunError when it cannot be written; those that are there stay
 */
export function writeCheckpoint(folder: string, state: CheckpointState): string {
  const { parts, optimizer, position, keep } = state;
  const path = checkpointPath(folder, position.step);
  tidy(() => {
    const { tensors, scalars } = optimizer.stateDict();
    const all = new Map<string, Tensor>();
    for (const [part, own] of Object.entries({ ...parts, optimizer: tensors })) {
      for (const [name, tensor] of own) all.set(`${part}.${name}`, tensor);
    }
    all.set("rng.default", getRngState());
    const metadata = { ...state.metadata, ...stringified(position), optimizer: JSON.stringify(scalars) };
    try {
      writeSafetensors(path, all, metadata);
    } catch (cause) {
      const size = [...all.values()].reduce((sum, tensor) => sum + tensor.numel * elementSize(tensor.dtype), 0);
      const last = listCheckpoints(folder).at(-1);
      throw new RunError(
        `the checkpoint of step ${position.step} was not written: ${(cause as Error).message}. It takes ${(size / 1e6).toFixed(1)} MB; make room for it, then ` +
          (last ? `go on from step ${last.step} with --resume` : "start again: there is no checkpoint yet"),
        { cause },
      );
    }
  });
  for (const old of listCheckpoints(folder).slice(0, -keep)) rmSync(old.path, { force: true });
  return path;
}

const stringified = (position: Position) => ({ step: String(position.step), epoch: String(position.epoch) });

/** Keeps a second name for a checkpoint, such as `best`, that survives the removal of old ones. */
export function linkCheckpoint(path: string, name: string): void {
  const target = join(path, "..", `${name}.safetensors`);
  const temporary = temporaryName(target);
  rmSync(temporary, { force: true }); // of a dead process that had this one's number
  try {
    linkSync(path, temporary);
  } catch {
    copyFileSync(path, temporary); // a file system without hard links
  }
  renameSync(temporary, target);
}

/** The newest checkpoint of a folder that can be read, and those after it that cannot. */
export function newestCheckpoint(folder: string): { newest: CheckpointInfo | null; damaged: { path: string; error: Error }[] } {
  const damaged: { path: string; error: Error }[] = [];
  for (const { path } of listCheckpoints(folder).reverse()) {
    try {
      return { newest: describeCheckpoint(path), damaged };
    } catch (error) {
      damaged.push({ path, error: error as Error });
    }
  }
  return { newest: null, damaged };
}

/** Takes a damaged checkpoint out of the list, so that it is neither resumed from nor counted; returns its new path. */
export function setAside(path: string): string {
  const aside = path.replace(/\.safetensors$/, ".damaged");
  renameSync(path, aside);
  return aside;
}

/** Position and metadata of a checkpoint, without reading its tensors. */
export function describeCheckpoint(path: string): CheckpointInfo {
  const { metadata } = readSafetensorsHeader(path);
  const step = Number(metadata.step);
  const epoch = Number(metadata.epoch);
  if (!Number.isInteger(step) || !Number.isInteger(epoch)) {
    throw new RunError(`${path} is not a checkpoint of a run: its metadata has no step and epoch`);
  }
  return { path, metadata, step, epoch };
}

/** Copies a checkpoint's values into what is trained; with an optimiser also into that and the default generator. */
export function readCheckpoint(path: string, { parts, optimizer }: { parts: Parts; optimizer?: Optimizer }): Position {
  return tidy(() => {
    const { tensors, metadata } = readSafetensors(path);
    for (const [name, live] of Object.entries(parts)) copyInto(live, part(tensors, `${name}.`), path);
    if (optimizer) {
      const rng = tensors.get("rng.default");
      if (!metadata.optimizer || !rng)
        throw new RunError(`${path} is not a checkpoint of a run: it has no optimiser or generator`);
      const scalars = JSON.parse(metadata.optimizer) as OptimizerState["scalars"];
      optimizer.loadStateDict({ tensors: part(tensors, "optimizer."), scalars });
      setRngState(rng);
    }
    return { step: Number(metadata.step), epoch: Number(metadata.epoch) };
  });
}

function part(tensors: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> {
  return new Map(
    [...tensors].flatMap(([name, tensor]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), tensor] as const] : [])),
  );
}

/** Copies values into live tensors of the same names and shapes. */
export function copyInto(live: ReadonlyMap<string, Tensor>, values: ReadonlyMap<string, Tensor>, source: string): void {
  const wrong = [...live].flatMap(([name, tensor]) => {
    const value = values.get(name);
    if (!value) return [`${name} is missing`];
    return value.shape.join() === tensor.shape.join()
      ? []
      : [`${name} is [${value.shape.join(", ")}] instead of [${tensor.shape.join(", ")}]`];
  });
  for (const name of values.keys()) if (!live.has(name)) wrong.push(`${name} is unexpected`);
  if (wrong.length > 0) {
    const shown = wrong.slice(0, 8).join("; ");
    throw new RunError(`${source} does not fit this run: ${shown}${wrong.length > 8 ? `; and ${wrong.length - 8} more` : ""}`);
  }
  noGrad(() => {
    for (const [name, tensor] of live) tensor.copy_(values.get(name)!);
  });
}
