// The ring of batches in shared memory. A slot holds one batch: its outputs (views), which sample is in which row, and two counters by which
// threads divide the rows among themselves without messages: a row belongs to whoever took its number off the count of those left.
import { outputBytes, outputsOf, type Plan } from "./plan.js";

/** A slot's memory; can be posted to a thread. */
export interface SlotData {
  readonly views: readonly SharedArrayBuffer[];
  /** Int32: the sample of each row; a bad sample's number is overwritten by its replacement's. */
  readonly index: SharedArrayBuffer;
  /** Int32: LEFT, DONE, ROWS and EPOCH. */
  readonly counters: SharedArrayBuffer;
}

/** Rows that nobody has taken yet. */
const LEFT = 0;
/** Rows that are written. */
const DONE = 1;
const ROWS = 2;
const EPOCH = 3;

export class Slot {
  readonly data: SlotData;
  readonly views: readonly Uint8Array<SharedArrayBuffer>[];
  readonly index: Int32Array<SharedArrayBuffer>;
  readonly #counters: Int32Array<SharedArrayBuffer>;

  constructor(data: SlotData) {
    this.data = data;
    this.views = data.views.map((buffer) => new Uint8Array(buffer));
    this.index = new Int32Array(data.index);
    this.#counters = new Int32Array(data.counters);
  }

  static allocate(plan: Plan, batchSize: number): Slot {
    return new Slot({
      views: outputsOf(plan).map((output) => new SharedArrayBuffer(outputBytes(output) * batchSize)),
      index: new SharedArrayBuffer(batchSize * 4),
      counters: new SharedArrayBuffer(16),
    });
  }

  /** Opens the slot for a new batch. Nobody may hold a row of it. */
  open(epoch: number, samples: Uint32Array): void {
    this.index.set(samples);
    Atomics.store(this.#counters, EPOCH, epoch);
    Atomics.store(this.#counters, ROWS, samples.length);
    Atomics.store(this.#counters, DONE, 0);
    Atomics.store(this.#counters, LEFT, samples.length);
  }

  /** Rows of the batch. Like `epoch`, it stays as it is while anybody holds a row. */
  get rows(): number {
    return Atomics.load(this.#counters, ROWS);
  }

  get epoch(): number {
    return Atomics.load(this.#counters, EPOCH);
  }

  /** Takes a row to fill: its number, or -1 when none is left. */
  takeRow(): number {
    if (Atomics.load(this.#counters, LEFT) <= 0) return -1;
    const left = Atomics.sub(this.#counters, LEFT, 1);
    return left > 0 ? this.rows - left : -1;
  }

  /** Says that a row is written; true for the last one of the batch. */
  rowDone(): boolean {
    const { rows } = this;
    return Atomics.add(this.#counters, DONE, 1) + 1 === rows;
  }

  get isFull(): boolean {
    return Atomics.load(this.#counters, DONE) === this.rows;
  }

  /** Hands out no more rows. Counts them as written, so that the batch is full once those that were handed out are. */
  cancel(): void {
    Atomics.add(this.#counters, DONE, Math.max(0, Atomics.exchange(this.#counters, LEFT, 0)));
  }
}
