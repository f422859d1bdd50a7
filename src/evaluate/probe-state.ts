// What a probe's training needs to go on where it was killed, to the same bits: a checkpoint in the folder where its features are kept.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { newestCheckpoint, type Parts, readCheckpoint, versions, writeCheckpoint } from "../fit/index.js";
import type { Optimizer } from "../optim/index.js";
import { fromTypedArray, type Tensor, tidy } from "../torch/index.js";
import { KeepClock, type KeepOptions } from "./keep.js";
import type { ProbeGrid } from "./probe-grid.js";
import type { ProbeJudge } from "./probe-judge.js";

/** Losses of each member over the batches of an epoch. */
export class EpochLosses {
  /** Of the epoch so far; after the members' the number of batches. */
  readonly sums: Float64Array;
  /** Means of the last whole epoch. */
  readonly means: Float64Array;

  constructor(members: number) {
    this.sums = new Float64Array(members + 1);
    this.means = new Float64Array(members);
  }

  add(losses: readonly number[]): void {
    for (const [i, loss] of losses.entries()) this.sums[i]! += loss;
    this.sums[losses.length]! += 1;
  }

  endEpoch(): void {
    const count = this.sums.at(-1)!;
    for (const i of this.means.keys()) this.means[i] = this.sums[i]! / count;
    this.sums.fill(0);
  }
}

export interface ProbeStateParts {
  grid: ProbeGrid;
  optimizer: Optimizer;
  judge: ProbeJudge;
  losses: EpochLosses;
  stepsPerEpoch: number;
}

export class ProbeState {
  readonly #parts: ProbeStateParts;
  readonly #folder: string | undefined;
  readonly #clock: KeepClock;

  /** @param keepIn where; undefined for nowhere */
  constructor(parts: ProbeStateParts, keepIn: KeepOptions | undefined) {
    this.#parts = parts;
    this.#folder = keepIn && join(keepIn.folder, "checkpoints");
    this.#clock = new KeepClock(keepIn ?? {});
  }

  /** Takes up the newest checkpoint, if there is one. Returns how many steps are done; at an epoch's end its evaluation is, too. */
  restore(): number {
    const newest = this.#folder === undefined ? null : newestCheckpoint(this.#folder).newest;
    if (!newest) return 0;
    const { judge, optimizer } = this.#parts;
    tidy(() => {
      const arrays = this.#arrays();
      const tensors = tensorsOf(arrays);
      readCheckpoint(newest.path, { parts: this.#state(tensors), optimizer });
      for (const [name, array] of arrays) array.set(tensors.get(name)!.data() as typeof array);
    });
    judge.standings = JSON.parse(newest.metadata.standings!) as typeof judge.standings;
    return newest.step;
  }

  /** Writes a checkpoint after so many steps, if the last one is old enough. */
  saveIfDue(step: number): void {
    if (this.#folder === undefined || !this.#clock.due()) return;
    const { judge, optimizer, stepsPerEpoch } = this.#parts;
    mkdirSync(this.#folder, { recursive: true });
    tidy(() =>
      writeCheckpoint(this.#folder!, {
        parts: this.#state(tensorsOf(this.#arrays())),
        optimizer,
        position: { step, epoch: Math.floor(step / stepsPerEpoch) },
        metadata: { ...versions(), standings: JSON.stringify(judge.standings) },
        keep: 1,
      }),
    );
    this.#clock.written();
  }

  #state(standing: ReadonlyMap<string, Tensor>): Parts {
    return { grid: this.#parts.grid.stateDict(), standing };
  }

  #arrays(): Map<string, Float64Array | Int32Array> {
    const { judge, losses } = this.#parts;
    return new Map<string, Float64Array | Int32Array>([
      ["predicted", judge.predicted],
      ["labels", judge.labels],
      ["sums", losses.sums],
      ["means", losses.means],
    ]);
  }
}

const tensorsOf = (arrays: ReadonlyMap<string, Float64Array | Int32Array>): Map<string, Tensor> =>
  new Map([...arrays].map(([name, array]) => [name, fromTypedArray(array)]));
