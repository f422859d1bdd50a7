// The loader: batches of views in shared memory, prefetched by worker threads into a bounded ring of slots.
// A training step blocks the main thread for long, so workers need nothing from it while it computes: all free slots are handed out
// in advance, and rows are divided by counters in shared memory (slots.ts).
import { availableParallelism } from "node:os";
import { BadLedger, type BadReport } from "./bad.js";
import { Crew } from "./crew.js";
import type { Dataset } from "./dataset.js";
import { DataError } from "./errors.js";
import { batchesPerEpoch, epochOrder } from "./order.js";
import { checkAnyPlan, outputsOf, type Plan } from "./plan.js";
import { Producer } from "./produce.js";
import { Slot } from "./slots.js";
import type { Fill, Full } from "./worker.js";

/** A place in training: batch `batch` of epoch `epoch`, both from 0. */
export interface Position {
  readonly epoch: number;
  readonly batch: number;
}

export interface LoaderOptions {
  dataset: Dataset;
  plan: Plan;
  batchSize: number;
  /** Key of every random choice, 0 to 2^53 - 1. Default 0. */
  seed?: number;
  /** Worker threads; 0 does the work in the calling thread, when a batch is asked for. Default: half the cores, from 1 to 4. */
  workers?: number;
  /** Batches made ahead of the one that is being used. Memory: prefetch + 1 batches. Default 2. */
  prefetch?: number;
  /** A new order every epoch. Default true. */
  shuffle?: boolean;
  /** Leave out an incomplete last batch. Default true. */
  dropLast?: boolean;
  /** Where a resumed run goes on: prefetching starts there at once, and `epoch(startAt.epoch)` starts at that batch. */
  startAt?: Position;
  /** Goes on prefetching into the next epoch when one ends. Default: as `shuffle`, which tells training from evaluation. */
  continuous?: boolean;
  /** The run fails when more than this share of the samples seen is bad. Default 0.05. */
  maxBadShare?: number;
  /** ... and at least this many are. Default 10, or all samples of a smaller dataset. */
  minBadCount?: number;
}

/** One view of a batch: bytes laid out [count][B][C][H][W]. */
export interface RawView {
  readonly shape: readonly [count: number, batch: number, channels: number, height: number, width: number];
  readonly data: Uint8Array<SharedArrayBuffer>;
}

/** A batch as bytes. It lies in the loader's memory: use it, then call `release`, after which its memory is filled anew. */
export interface RawBatch extends Position {
  readonly views: Readonly<Record<string, RawView>>;
  /** The sample in each row (a replacement's number where the planned one was bad). */
  readonly index: Int32Array;
  /** The labels, where the dataset has any; -1 for a sample without one. */
  readonly labels?: Int32Array;
  /** How long this batch had to be waited for, in milliseconds. */
  readonly waitMs: number;
  release(): void;
}

interface Pending extends Position {
  readonly slot: number;
  readonly samples: Uint32Array;
}

function wholeNumber(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new DataError(`Loader: ${name} is ${value}; expected a whole number, ${least} or more.`);
  }
  return value;
}

export class Loader {
  readonly plan: Plan;
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
  readonly #options: Required<Omit<LoaderOptions, "startAt">> & { startAt: Position };
  readonly #slots: readonly Slot[];
  readonly #free: number[];
  readonly #crew: Crew<Fill, Full> | undefined;
  readonly #producer: Producer | undefined;
  readonly #ledger: BadLedger;
  /** Batches in the making, in order. */
  #pending: Pending[] = [];
  /** The next batch to ask workers for. */
  #cursor: Position;
  #order: { epoch: number; samples: Uint32Array } | undefined;
  #reader = 0;
  #closed = false;

  constructor(options: LoaderOptions) {
    const { dataset, plan, shuffle = true } = options;
    const batchSize = wholeNumber("batchSize", options.batchSize, 1);
    const startAt = options.startAt ?? { epoch: 0, batch: 0 };
    this.#options = {
      dataset,
      plan,
      batchSize,
      shuffle,
      seed: wholeNumber("seed", options.seed ?? 0, 0),
      workers: wholeNumber("workers", options.workers ?? Math.min(4, Math.max(1, availableParallelism() >> 1)), 0),
      prefetch: wholeNumber("prefetch", options.prefetch ?? 2, 1),
      dropLast: options.dropLast ?? true,
      continuous: options.continuous ?? shuffle,
      maxBadShare: options.maxBadShare ?? 0.05,
      minBadCount: wholeNumber("minBadCount", options.minBadCount ?? Math.min(10, dataset.length), 1),
      startAt: { epoch: wholeNumber("startAt.epoch", startAt.epoch, 0), batch: wholeNumber("startAt.batch", startAt.batch, 0) },
    };
    checkAnyPlan(plan);
    this.plan = plan;
    this.batchSize = batchSize;
    this.batchesPerEpoch = batchesPerEpoch(dataset.length, batchSize, this.#options.dropLast);
    if (this.batchesPerEpoch === 0) {
      throw new DataError(
        `${dataset.name} has ${dataset.length} samples, less than one batch of ${batchSize}; use a smaller batchSize or dropLast: false.`,
      );
    }
    const { seed, workers, prefetch, maxBadShare, minBadCount } = this.#options;
    this.#ledger = new BadLedger(dataset.name, dataset.length, maxBadShare, minBadCount);
    this.#slots = Array.from({ length: prefetch + 1 }, () => Slot.allocate(plan, batchSize));
    this.#free = this.#slots.map((_, i) => i).reverse();
    this.#cursor = this.#options.startAt;
    const onBad = this.#ledger.report.bind(this.#ledger);
    if (workers > 0) {
      const setup = { plan, seed, slots: this.#slots.map((slot) => slot.data) };
      this.#crew = new Crew({ count: workers, dataset, file: "worker.js", setup, onBad });
      if (options.startAt) this.#ask();
    } else {
      this.#producer = new Producer(dataset, plan, seed, this.#slots, onBad);
    }
  }

  /** The bad samples met so far, as far as their batches have been handed out. */
  get bad(): BadReport {
    return this.#ledger.state;
  }

  /**
   * The batches of an epoch, from batch `fromBatch` on (default 0; in the epoch of `startAt`, its batch). One epoch is read at a time:
   * starting another ends the one before. Leaving the loop early is fine.
   */
  async *epoch(epoch: number, fromBatch?: number): AsyncGenerator<RawBatch, void, void> {
    wholeNumber("epoch", epoch, 0);
    const { startAt } = this.#options;
    const reader = ++this.#reader;
    const first = wholeNumber("fromBatch", fromBatch ?? (epoch === startAt.epoch ? startAt.batch : 0), 0);
    for (let batch = first; batch < this.batchesPerEpoch; batch++) {
      if (this.#closed) throw new DataError("The loader is closed.");
      if (reader !== this.#reader) throw new DataError("This epoch of the loader was ended when another was started.");
      yield await this.#take({ epoch, batch });
    }
    this.#options.dataset.flush?.();
  }

  /** Ends the workers. A loader that nobody reads keeps no process alive even without this. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { slot } of this.#pending) this.#slots[slot]!.cancel();
    await this.#crew?.close();
    this.#options.dataset.flush?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The samples of a batch. */
  #samplesOf({ epoch, batch }: Position): Uint32Array {
    const { dataset, seed, shuffle, batchSize } = this.#options;
    if (this.#order?.epoch !== epoch) this.#order = { epoch, samples: epochOrder(dataset.length, seed, epoch, shuffle) };
    return this.#order.samples.subarray(batch * batchSize, (batch + 1) * batchSize);
  }

  #open(position: Position): Pending {
    const slot = this.#free.pop()!;
    const samples = this.#samplesOf(position);
    this.#slots[slot]!.open(position.epoch, samples);
    return { ...position, slot, samples };
  }

  /** Gives every free slot to the workers. */
  #ask(): void {
    if (this.#closed || !this.#crew) return;
    while (this.#free.length > 0) {
      if (this.#cursor.batch >= this.batchesPerEpoch) {
        if (!this.#options.continuous) return;
        this.#cursor = { epoch: this.#cursor.epoch + 1, batch: 0 };
      }
      const pending = this.#open(this.#cursor);
      this.#pending.push(pending);
      this.#crew.tell({ fill: pending.slot });
      this.#cursor = { epoch: pending.epoch, batch: pending.batch + 1 };
    }
  }

  async #take(position: Position): Promise<RawBatch> {
    const start = performance.now();
    const pending = this.#crew ? await this.#fromWorkers(this.#crew, position) : await this.#byHand(position);
    const came = this.#slots[pending.slot]!.index.subarray(0, pending.samples.length);
    this.#ledger.deliver(pending.samples, came);
    return this.#batch(pending, performance.now() - start);
  }

  async #byHand(position: Position): Promise<Pending> {
    if (this.#free.length === 0) this.#refuse();
    const pending = this.#open(position);
    try {
      await this.#producer!.fill(pending.slot);
    } catch (error) {
      this.#slots[pending.slot]!.cancel();
      this.#free.push(pending.slot);
      throw error;
    }
    return pending;
  }

  async #fromWorkers(crew: Crew<Fill, Full>, position: Position): Promise<Pending> {
    const head = this.#pending[0] ?? this.#cursor;
    if (head.epoch !== position.epoch || head.batch !== position.batch) {
      await this.#drop(crew);
      this.#cursor = position;
    }
    this.#ask();
    const pending = this.#pending[0];
    if (!pending) this.#refuse();
    const slot = this.#slots[pending.slot]!;
    for (;;) {
      crew.check();
      if (this.#closed) throw new DataError("The loader was closed while a batch was waited for.");
      if (slot.isFull) break;
      await crew.changed();
    }
    crew.check(); // Bad samples are reported before their batch is full: now all of this batch's are known.
    this.#pending.shift();
    return pending;
  }

  /** Takes back everything that was asked for; waits until no worker writes to those slots. */
  async #drop(crew: Crew<Fill, Full>): Promise<void> {
    const dropped = this.#pending;
    this.#pending = [];
    for (const { slot } of dropped) this.#slots[slot]!.cancel();
    for (const { slot } of dropped) {
      while (!this.#slots[slot]!.isFull) {
        crew.check();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      this.#free.push(slot);
    }
  }

  #refuse(): never {
    throw new DataError(
      `All ${this.#slots.length} batches of the loader are in use; call release() on a batch when its bytes have been copied, or ` +
        "raise prefetch.",
    );
  }

  #batch({ epoch, batch, slot, samples }: Pending, waitMs: number): RawBatch {
    const { dataset, plan } = this.#options;
    const rows = samples.length;
    const memory = this.#slots[slot]!;
    const views: Record<string, RawView> = {};
    for (const [v, { name, count, channels, size }] of outputsOf(plan).entries()) {
      const shape = [count, rows, channels, size[0], size[1]] as const;
      views[name] = { shape, data: memory.views[v]!.subarray(0, shape[0] * shape[1] * shape[2] * shape[3] * shape[4]) };
    }
    const index = memory.index.slice(0, rows);
    const labels = dataset.classes && Int32Array.from(index, (sample) => dataset.label(sample) ?? -1);
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      this.#free.push(slot);
      this.#ask();
    };
    return { epoch, batch, views, index, ...(labels && { labels }), waitMs, release };
  }
}

/** Starts a loader. */
export function createLoader(options: LoaderOptions): Loader {
  return new Loader(options);
}
