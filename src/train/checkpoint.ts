// A pre-training run's checkpoints: what src/fit/checkpoint.ts says, with the method's state() under `method.`.
import { type Position, readCheckpoint, writeCheckpoint } from "../fit/index.js";
import type { Method } from "../methods/index.js";
import type { Optimizer } from "../optim/index.js";

/** Writes the checkpoint of a method and its optimiser. @throws RunError when it cannot be written; those that are there stay */
export function saveCheckpoint(
  folder: string,
  {
    method,
    ...state
  }: { method: Method; optimizer: Optimizer; position: Position; metadata: Record<string, string>; keep: number },
): string {
  return writeCheckpoint(folder, { ...state, parts: { method: method.state() } });
}

/** Copies a checkpoint's values into a method, an optimiser and the default generator. */
export function loadCheckpoint(path: string, { method, optimizer }: { method: Method; optimizer?: Optimizer }): Position {
  return readCheckpoint(path, { parts: { method: method.state() }, ...(optimizer && { optimizer }) });
}
