// The loop that trains probes, whichever: epochs over what is kept of the images, evaluations, and what each member of the grid reached.
import { tidy } from "../torch/index.js";
import type { KeepOptions } from "./keep.js";
import type { ProbeData } from "./probe-data.js";
import type { ProbeGrid } from "./probe-grid.js";
import { ProbeJudge, type ProbeResult } from "./probe-judge.js";
import { GridOptimizer, type ProbePlan } from "./probe-plan.js";
import { EpochLosses, ProbeState } from "./probe-state.js";
import { turn } from "./turn.js";

/** How far the training is. */
export interface TrainingProgress {
  /** Images of all epochs that were learnt from, and how many it will be. */
  readonly done: number;
  readonly total: number;
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
}

export interface TrainProbeOptions {
  plan: ProbePlan;
  train: ProbeData;
  test: ProbeData;
  onProgress?: ((progress: TrainingProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Where the state is kept meanwhile; a training that finds one there goes on, to the same bits. Default: nowhere. */
  keep?: KeepOptions | undefined;
}

/** Steps between turns of the event loop, in which signals are heard. */
const TURN = 64;

/** Trains all members of a grid by a plan and evaluates them. The same for the same seed on one machine and number of threads. */
export async function trainProbe(
  grid: ProbeGrid,
  { plan, train, test, onProgress, signal, keep }: TrainProbeOptions,
): Promise<ProbeResult> {
  const { epochs } = plan;
  const batchSize = Math.min(plan.batchSize, train.images);
  // A smaller last batch is left out, as the papers' code does: its statistics would be poor.
  const steps = Math.floor(train.images / batchSize);
  const optimizer = new GridOptimizer(plan, grid.groups, steps);
  const judge = new ProbeJudge(grid, plan, test.images);
  const losses = new EpochLosses(grid.members);
  const state = new ProbeState({ grid, optimizer: optimizer.optimizer, judge, losses, stepsPerEpoch: steps }, keep);
  try {
    let at = state.restore();
    while (at < epochs * steps) {
      const epoch = Math.floor(at / steps);
      grid.train();
      for await (const load of train.batches(batchSize, epoch, at % steps)) {
        if (at === (epoch + 1) * steps) break;
        losses.add(
          tidy(() => {
            const { features, labels } = load();
            const each = grid.learn(features, labels);
            optimizer.step(at);
            return each.toArray();
          }),
        );
        at += 1;
        if (at % TURN === 0) await turn(signal);
        onProgress?.({ done: at * batchSize, total: epochs * steps * batchSize, epoch: epoch + 1, epochs });
        if (at % steps > 0) state.saveIfDue(at);
      }
      losses.endEpoch();
      await turn(signal);
      const last = epoch + 1 === epochs;
      if (last || (plan.evaluateEvery > 0 && (epoch + 1) % plan.evaluateEvery === 0))
        await judge.evaluate(test, { epoch: epoch + 1, last, signal });
      state.saveIfDue(at);
    }
    return judge.result([...losses.means], { train: train.images, test: test.images });
  } finally {
    optimizer.dispose();
  }
}
