// Fills rows of a batch: read the sample, replace it when it is bad, make its views. The same code runs in workers and, without
// workers, in the main thread, so the bytes are the same.
import { Augmenter } from "./augment.js";
import type { Dataset } from "./dataset.js";
import { BadSampleError, DataError, messageOf } from "./errors.js";
import { replacementFor } from "./order.js";
import type { Pixels } from "./pixels.js";
import type { Slot } from "./slots.js";
import type { ViewPlan } from "./views.js";

/** A sample that could not be used. */
export interface BadSample {
  readonly index: number;
  readonly path: string;
  readonly reason: string;
}

/** How many other samples are tried before giving up on a row. */
const ATTEMPTS = 64;

interface Read {
  readonly image: Pixels;
  readonly index: number;
}

export class Producer {
  readonly #dataset: Dataset;
  readonly #seed: number;
  readonly #augmenter: Augmenter;
  readonly #slots: readonly Slot[];
  readonly #bad = new Map<number, string>();
  readonly #onBad: (bad: BadSample) => void;

  constructor(dataset: Dataset, plan: ViewPlan, seed: number, slots: readonly Slot[], onBad: (bad: BadSample) => void) {
    this.#dataset = dataset;
    this.#seed = seed;
    this.#augmenter = new Augmenter(plan, seed);
    this.#slots = slots;
    this.#onBad = onBad;
  }

  /** Fills rows of a slot until none is left. True when this call finished the batch. */
  async fill(slotNumber: number): Promise<boolean> {
    const slot = this.#slots[slotNumber]!;
    let finished = false;
    let row = slot.takeRow();
    if (row < 0) return false;
    const { rows, epoch } = slot;
    let reading: Read | Promise<Read> = this.#start(slot.index[row]!, epoch);
    while (row >= 0) {
      const sample = slot.index[row]!;
      const read: Read = reading instanceof Promise ? await reading : reading;
      // The next image is decoded (by another thread, in libvips) while this one is augmented.
      const nextRow = slot.takeRow();
      if (nextRow >= 0) reading = this.#start(slot.index[nextRow]!, epoch);
      slot.index[row] = read.index;
      this.#augmenter.run(read.image, epoch, sample, slot.views, row, rows);
      if (slot.rowDone()) finished = true;
      row = nextRow;
    }
    return finished;
  }

  /** Reads a sample or its replacement, at once where the dataset can. */
  #start(index: number, epoch: number): Read | Promise<Read> {
    try {
      const image = this.#dataset.read(index);
      if (!(image instanceof Promise)) return { image, index };
      const read = image.then(
        (image) => ({ image, index }),
        (error) => this.#replace(index, epoch, error),
      );
      // Whoever asked may be busy augmenting (or gone) when this fails: it is dealt with when it is awaited.
      read.catch(() => {});
      return read;
    } catch (error) {
      const read = this.#replace(index, epoch, error);
      read.catch(() => {});
      return read;
    }
  }

  async #replace(index: number, epoch: number, error: unknown): Promise<Read> {
    this.#note(index, error);
    const { length } = this.#dataset;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const other = replacementFor(length, this.#seed, epoch, index, attempt);
      if (this.#bad.has(other)) continue;
      try {
        return { image: await this.#dataset.read(other), index: other };
      } catch (error) {
        this.#note(other, error);
      }
    }
    const path = this.#dataset.path(index);
    throw new DataError(
      `${path} is bad (${this.#bad.get(index)}), and so are ${ATTEMPTS} other samples of ${this.#dataset.name} that were tried ` +
        "in its place. Check the files with `tessera data verify`.",
    );
  }

  /** Remembers and reports a bad sample; anything else that a dataset throws ends the run. */
  #note(index: number, error: unknown): void {
    if (!(error instanceof BadSampleError) && (error as Error)?.name !== "BadSampleError") {
      throw new DataError(`${this.#dataset.name} failed to read sample ${index}: ${messageOf(error)}`, { cause: error });
    }
    const reason = (error as BadSampleError).reason ?? messageOf(error);
    if (this.#bad.has(index)) return;
    this.#bad.set(index, reason);
    this.#onBad({ index, path: this.#dataset.path(index), reason });
  }
}
