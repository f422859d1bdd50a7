// Fills rows of a batch: read the sample, replace it when it is bad, make its views. The same code runs in workers and, without
// workers, in the main thread, so the bytes are the same.
import type { Dataset } from "./dataset.js";
import { type Maker, makerFor, type Plan } from "./plan.js";
import { type BadSample, type Read, Reader } from "./reader.js";
import type { Slot } from "./slots.js";

/** Images that are decoded (by other threads, in libvips) while one is augmented. Of one alone a core would wait for its end to be heard of. */
const AHEAD = 2;

interface Coming {
  readonly row: number;
  readonly sample: number;
  readonly epoch: number;
  readonly reading: Read | Promise<Read>;
}

export class Producer {
  readonly #reader: Reader;
  readonly #maker: Maker;
  readonly #slots: readonly Slot[];

  constructor(dataset: Dataset, plan: Plan, seed: number, slots: readonly Slot[], onBad: (bad: BadSample) => void) {
    this.#reader = new Reader(dataset, seed, onBad);
    this.#maker = makerFor(plan, seed);
    this.#slots = slots;
  }

  /**
   * Fills rows of a slot until none is left; true when this call finished the batch. Calls `allTaken` once no row is left to take, while the
   * last ones are still in the making: then another slot may be begun.
   */
  async fill(slotNumber: number, allTaken: () => void = () => {}): Promise<boolean> {
    const slot = this.#slots[slotNumber]!;
    const ahead: Coming[] = [];
    let more = true;
    const take = (): void => {
      while (more && ahead.length < AHEAD) {
        const row = slot.takeRow();
        more = row >= 0;
        if (!more) {
          allTaken();
          return;
        }
        const { epoch } = slot;
        const sample = slot.index[row]!;
        ahead.push({ row, sample, epoch, reading: this.#reader.read(sample, epoch) });
      }
    };
    let finished = false;
    take();
    for (let coming = ahead.shift(); coming; coming = ahead.shift()) {
      const { row, sample, epoch, reading } = coming;
      const read: Read = reading instanceof Promise ? await reading : reading;
      take();
      slot.index[row] = read.index;
      this.#maker.run(read.image, epoch, sample, slot.views, row, slot.rows);
      if (slot.rowDone()) finished = true;
    }
    return finished;
  }
}
