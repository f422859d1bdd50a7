// The loop that trains probes, whichever: epochs over what is kept of the images, evaluations, and what each member of the grid reached.
import { noGrad, type Tensor, tidy } from "../torch/index.js";
import type { ProbeData } from "./probe-data.js";
import type { ProbeGrid } from "./probe-grid.js";
import { GridOptimizer, type MemberRates, membersOf, type ProbePlan } from "./probe-plan.js";
import { type Confusion, confusionOf, placesOf } from "./scores.js";

/** Shares of test images, from 0 to 1. */
export interface Accuracy {
  /** The class with the highest score is the right one. */
  readonly top1: number;
  /** The right class is among the five with the highest scores. */
  readonly top5: number;
}

/** What one member of the grid reached. */
export interface MemberResult extends MemberRates, Accuracy {
  /** Base learning rate, of a batch of the protocol's lrBatch. */
  readonly baseLr: number;
  /** The epoch whose accuracy is reported, counted from 1. */
  readonly epoch: number;
  /** Mean loss over the last epoch's batches; not finite where the learning rate was too high. */
  readonly loss: number;
}

export interface ProbeResult {
  /** The member with the highest top-1; the first where several have it. */
  readonly best: MemberResult;
  /** All members, in the order of weight decays and learning rates. */
  readonly grid: readonly MemberResult[];
  /** The best member's test images: how many of each class (row) were taken for each class (column). */
  readonly confusion: Confusion;
  readonly images: { readonly train: number; readonly test: number };
  readonly classes: number;
}

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
}

/** Images that are scored at once are so many that their scores take 64 MB. */
const SCORES = 2 ** 24;
/** Steps between turns of the event loop, in which signals are heard. */
const TURN = 64;

/** Trains all members of a grid by a plan and evaluates them. The same for the same seed on one machine and number of threads. */
export async function trainProbe(
  grid: ProbeGrid,
  { plan, train, test, onProgress, signal }: TrainProbeOptions,
): Promise<ProbeResult> {
  const { epochs } = plan;
  const batchSize = Math.min(plan.batchSize, train.images);
  // A smaller last batch is left out, as the papers' code does: its statistics would be poor.
  const steps = Math.floor(train.images / batchSize);
  const optimizer = new GridOptimizer(plan, grid.groups, steps);
  const judge = new Judge(grid, plan);
  let losses: number[] = [];
  try {
    for (let epoch = 0; epoch < epochs; epoch++) {
      grid.train();
      const sums = new Float64Array(grid.members);
      let step = 0;
      for await (const load of train.batches(batchSize, epoch)) {
        if (step === steps) break;
        const learned = tidy(() => {
          const { features, labels } = load();
          const each = grid.learn(features, labels).toArray();
          optimizer.step(epoch * steps + step);
          return each;
        });
        for (const [i, loss] of learned.entries()) sums[i]! += loss;
        step++;
        if (step % TURN === 0) await turn(signal);
        const done = (epoch * steps + step) * batchSize;
        onProgress?.({ done, total: epochs * steps * batchSize, epoch: epoch + 1, epochs });
      }
      losses = Array.from(sums, (sum) => sum / step);
      await turn(signal);
      const last = epoch + 1 === epochs;
      if (last || (plan.evaluateEvery > 0 && (epoch + 1) % plan.evaluateEvery === 0))
        await judge.evaluate(test, epoch + 1, last, signal);
    }
  } finally {
    optimizer.dispose();
  }
  return judge.result(losses, { train: train.images, test: test.images });
}

/** Lets others run. */
async function turn(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}

interface Standing extends Accuracy {
  epoch: number;
  /** The class each test image was taken for. */
  predicted: Int32Array;
}

/** Keeps for each member the evaluation that is reported. */
class Judge {
  readonly #grid: ProbeGrid;
  readonly #plan: ProbePlan;
  readonly #standings: (Standing | undefined)[];
  #labels = new Int32Array(0);

  constructor(grid: ProbeGrid, plan: ProbePlan) {
    this.#grid = grid;
    this.#plan = plan;
    this.#standings = Array.from({ length: grid.members }, () => undefined);
  }

  async evaluate(test: ProbeData, epoch: number, last: boolean, signal: AbortSignal | undefined): Promise<void> {
    const grid = this.#grid;
    const { members, classes } = grid;
    const predicted = Array.from({ length: members }, () => new Int32Array(test.images));
    const right = Array.from({ length: members }, () => ({ top1: 0, top5: 0 }));
    this.#labels = new Int32Array(test.images);
    grid.eval();
    let at = 0;
    for await (const load of test.batches(Math.min(1024, Math.max(1, Math.floor(SCORES / (members * classes)))))) {
      const count = tidy(() =>
        noGrad(() => {
          const { features, labels } = load();
          const scores = grid.call(features) as Tensor;
          const places = placesOf(scores, labels);
          const [first, five] = [places.lt(1), places.lt(5)].map((each) => each.to("int64").sum(0).toArray());
          const said = scores.argmax(-1).to("int32").transpose(0, 1).contiguous().data() as Int32Array;
          const rows = labels.size(0);
          for (let i = 0; i < members; i++) {
            right[i]!.top1 += first![i]!;
            right[i]!.top5 += five![i]!;
            predicted[i]!.set(said.subarray(i * rows, (i + 1) * rows), at);
          }
          this.#labels.set(labels.to("int32").data() as Int32Array, at);
          return rows;
        }),
      );
      at += count;
      await turn(signal);
    }
    for (let i = 0; i < members; i++) {
      const top1 = right[i]!.top1 / at;
      const before = this.#standings[i];
      const better = this.#plan.report === "last" ? last : !before || top1 > before.top1;
      if (better) this.#standings[i] = { epoch, top1, top5: right[i]!.top5 / at, predicted: predicted[i]! };
    }
  }

  result(losses: readonly number[], images: { train: number; test: number }): ProbeResult {
    const { lr } = this.#plan;
    const rates = membersOf(this.#plan);
    const grid = this.#standings.map((standing, i): MemberResult => {
      const { epoch, top1, top5 } = standing!;
      return { baseLr: lr[i % lr.length]!, ...rates[i]!, top1, top5, epoch, loss: losses[i]! };
    });
    let best = 0;
    for (const [i, { top1 }] of grid.entries()) if (top1 > grid[best]!.top1) best = i;
    const { classes } = this.#grid;
    return {
      best: grid[best]!,
      grid,
      confusion: confusionOf(this.#labels, this.#standings[best]!.predicted, classes),
      images,
      classes,
    };
  }
}
