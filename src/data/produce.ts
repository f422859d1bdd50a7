// Fills rows of a batch: read the sample, replace it when it is bad, make its views. The same code runs in workers and, without
// workers, in the main thread, so the bytes are the same.
import type { Dataset } from "./dataset.js";
import { type Maker, makerFor, type Plan } from "./plan.js";
import { type BadSample, type Read, Reader } from "./reader.js";
import type { Slot } from "./slots.js";

export class Producer {
  readonly #reader: Reader;
  readonly #maker: Maker;
  readonly #slots: readonly Slot[];

  constructor(dataset: Dataset, plan: Plan, seed: number, slots: readonly Slot[], onBad: (bad: BadSample) => void) {
    this.#reader = new Reader(dataset, seed, onBad);
    this.#maker = makerFor(plan, seed);
    this.#slots = slots;
  }

  /** Fills rows of a slot until none is left. True when this call finished the batch. */
  async fill(slotNumber: number): Promise<boolean> {
    const slot = this.#slots[slotNumber]!;
    let finished = false;
    let row = slot.takeRow();
    if (row < 0) return false;
    const { rows, epoch } = slot;
    let reading: Read | Promise<Read> = this.#reader.read(slot.index[row]!, epoch);
    while (row >= 0) {
      const sample = slot.index[row]!;
      const read: Read = reading instanceof Promise ? await reading : reading;
      // The next image is decoded (by another thread, in libvips) while this one is augmented.
      const nextRow = slot.takeRow();
      if (nextRow >= 0) reading = this.#reader.read(slot.index[nextRow]!, epoch);
      slot.index[row] = read.index;
      this.#maker.run(read.image, epoch, sample, slot.views, row, rows);
      if (slot.rowDone()) finished = true;
      row = nextRow;
    }
    return finished;
  }
}
