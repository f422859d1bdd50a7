// What each member of a grid of probes reached: evaluations on the test images, of which the one that is reported is kept.
import { noGrad, type Tensor, tidy } from "../torch/index.js";
import type { ProbeData } from "./probe-data.js";
import type { ProbeGrid } from "./probe-grid.js";
import { type MemberRates, membersOf, type ProbePlan } from "./probe-plan.js";
import { type Confusion, confusionOf, placesOf } from "./scores.js";
import { turn } from "./turn.js";

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

/** Images that are scored at once are so many that their scores take 64 MB. */
const SCORES = 2 ** 24;

interface Standing extends Accuracy {
  epoch: number;
}

export class ProbeJudge {
  readonly #grid: ProbeGrid;
  readonly #plan: ProbePlan;
  /** Which evaluation is reported of each member. */
  standings: (Standing | null)[];
  /** The class that each member took each test image for in it: [members][images]. */
  readonly predicted: Int32Array;
  /** The right ones. */
  readonly labels: Int32Array;

  constructor(grid: ProbeGrid, plan: ProbePlan, images: number) {
    this.#grid = grid;
    this.#plan = plan;
    this.standings = Array.from({ length: grid.members }, () => null);
    this.predicted = new Int32Array(grid.members * images);
    this.labels = new Int32Array(images);
  }

  async evaluate(
    test: ProbeData,
    { epoch, last, signal }: { epoch: number; last: boolean; signal: AbortSignal | undefined },
  ): Promise<void> {
    const grid = this.#grid;
    const { members, classes } = grid;
    const predicted = Array.from({ length: members }, () => new Int32Array(test.images));
    const right = Array.from({ length: members }, () => ({ top1: 0, top5: 0 }));
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
          this.labels.set(labels.to("int32").data() as Int32Array, at);
          return rows;
        }),
      );
      at += count;
      await turn(signal);
    }
    for (let i = 0; i < members; i++) {
      const top1 = right[i]!.top1 / at;
      const before = this.standings[i];
      const better = this.#plan.report === "last" ? last : !before || top1 > before.top1;
      if (!better) continue;
      this.standings[i] = { epoch, top1, top5: right[i]!.top5 / at };
      this.predicted.set(predicted[i]!, i * test.images);
    }
  }

  result(losses: readonly number[], images: { train: number; test: number }): ProbeResult {
    const { lr } = this.#plan;
    const rates = membersOf(this.#plan);
    const grid = this.standings.map((standing, i): MemberResult => {
      const { epoch, top1, top5 } = standing!;
      return { baseLr: lr[i % lr.length]!, ...rates[i]!, top1, top5, epoch, loss: losses[i]! };
    });
    let best = 0;
    for (const [i, { top1 }] of grid.entries()) if (top1 > grid[best]!.top1) best = i;
    const { classes } = this.#grid;
    const predicted = this.predicted.subarray(best * images.test, (best + 1) * images.test);
    return { best: grid[best]!, grid, confusion: confusionOf(this.labels, predicted, classes), images, classes };
  }
}
