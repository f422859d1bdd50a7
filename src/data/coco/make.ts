// Makes samples of a detection batch, in workers and, without workers, in the main thread: the bytes are the same.
import { type BadSample, Reader } from "../reader.js";
import type { CocoDataset } from "./dataset.js";
import type { DetectionPlan } from "./plan.js";
import { type DetectionSampleBytes, makeSample } from "./sample.js";

export interface MakerSetup {
  readonly plan: DetectionPlan;
  readonly seed: number;
  /** Whether another sample stands in for one that is bad; else it is left out. */
  readonly replace: boolean;
}

export class Maker {
  readonly #dataset: CocoDataset;
  readonly #setup: MakerSetup;
  readonly #reader: Reader;

  constructor(dataset: CocoDataset, setup: MakerSetup, onBad: (bad: BadSample) => void) {
    this.#dataset = dataset;
    this.#setup = setup;
    this.#reader = new Reader(dataset, setup.seed, onBad);
  }

  /** The sample; undefined where it is bad and nothing stands in for it. */
  async make(sample: number, epoch: number): Promise<DetectionSampleBytes | undefined> {
    const { plan, seed, replace } = this.#setup;
    const read = await (replace ? this.#reader.read(sample, epoch) : this.#reader.readOnly(sample));
    return read && makeSample(this.#dataset, plan, read.image, { index: read.index, sample, seed, epoch });
  }
}
