// Batches for detection: images of different sizes with their objects, made ahead by worker threads. As in the other loader, the choices
// are functions of (seed, epoch, sample), so batches do not depend on the number of workers, and a resume needs only a position.
import { availableParallelism } from "node:os";
import { BadLedger, type BadReport } from "../bad.js";
import { Crew } from "../crew.js";
import { DataError } from "../errors.js";
import type { Position } from "../loader.js";
import { batchesPerEpoch, epochOrder } from "../order.js";
import type { CocoDataset } from "./dataset.js";
import { Maker } from "./make.js";
import { groupedByShape } from "./order.js";
import type { DetectionPlan } from "./plan.js";
import type { DetectionSampleBytes } from "./sample.js";
import type { Made, Order } from "./worker.js";

export interface DetectionLoaderOptions {
  dataset: CocoDataset;
  plan: DetectionPlan;
  batchSize: number;
  /** Key of every random choice. Default 0. */
  seed?: number;
  /** Worker threads; 0 does the work in the calling thread, when a batch is asked for. Default: half the cores, from 1 to 4. */
  workers?: number;
  /** Batches made ahead. Default 2. */
  prefetch?: number;
  /** A new order every epoch. Default true. */
  shuffle?: boolean;
  /** Batches of wide or of tall images, so that less is padding. Default: as `shuffle`. */
  groupShapes?: boolean;
  /** Leave out an incomplete last batch. Default: as `shuffle`. */
  dropLast?: boolean;
  /** Another sample stands in for a bad one; else it is left out, and its batch is smaller. Default: as `shuffle`. */
  replace?: boolean;
  /** Where a resumed run goes on. */
  startAt?: Position;
  /** The run fails when more than this share of the samples seen is bad. Default 0.05. */
  maxBadShare?: number;
  /** ... and at least this many are. Default 10, or all samples of a smaller dataset. */
  minBadCount?: number;
}

/** A batch as bytes; `detectionTensors` makes tensors of it. */
export interface RawDetectionBatch extends Position {
  readonly samples: readonly DetectionSampleBytes[];
  /** How long it had to be waited for, in milliseconds. */
  readonly waitMs: number;
}

interface Pending extends Position {
  readonly first: number;
  readonly samples: Uint32Array;
}

export class DetectionLoader {
  readonly plan: DetectionPlan;
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
  readonly #options: Required<Omit<DetectionLoaderOptions, "startAt" | "plan">> & { startAt: Position };
  readonly #ledger: BadLedger;
  readonly #crew: Crew<Order, Made> | undefined;
  readonly #maker: Maker | undefined;
  readonly #taken = new Int32Array(new SharedArrayBuffer(4));
  readonly #made = new Map<number, DetectionSampleBytes | undefined>();
  #pending: Pending[] = [];
  #tickets = 0;
  #cursor: Position;
  #order: { epoch: number; samples: Uint32Array } | undefined;
  #reader = 0;
  #closed = false;

  constructor(options: DetectionLoaderOptions) {
    const { dataset, plan, shuffle = true, startAt = { epoch: 0, batch: 0 } } = options;
    const whole = (name: string, value: number, least: number): number => {
      if (Number.isSafeInteger(value) && value >= least) return value;
      throw new DataError(`Detection loader: ${name} is ${value}; expected a whole number, ${least} or more.`);
    };
    this.#options = {
      dataset,
      batchSize: whole("batchSize", options.batchSize, 1),
      shuffle,
      groupShapes: options.groupShapes ?? shuffle,
      dropLast: options.dropLast ?? shuffle,
      replace: options.replace ?? shuffle,
      seed: whole("seed", options.seed ?? 0, 0),
      workers: whole("workers", options.workers ?? Math.min(4, Math.max(1, availableParallelism() >> 1)), 0),
      prefetch: whole("prefetch", options.prefetch ?? 2, 1),
      maxBadShare: options.maxBadShare ?? 0.05,
      minBadCount: whole("minBadCount", options.minBadCount ?? Math.max(1, Math.min(10, dataset.length)), 1),
      startAt: { epoch: whole("startAt.epoch", startAt.epoch, 0), batch: whole("startAt.batch", startAt.batch, 0) },
    };
    const { batchSize, dropLast, workers, seed, replace, maxBadShare, minBadCount } = this.#options;
    this.plan = plan;
    this.batchSize = batchSize;
    this.batchesPerEpoch = batchesPerEpoch(dataset.length, batchSize, dropLast);
    if (this.batchesPerEpoch === 0) {
      throw new DataError(
        `${dataset.name} has ${dataset.length} images, less than one batch of ${batchSize}; use a smaller batchSize or dropLast: false.`,
      );
    }
    this.#ledger = new BadLedger(dataset.name, dataset.length, maxBadShare, minBadCount);
    this.#cursor = this.#options.startAt;
    const onBad = this.#ledger.report.bind(this.#ledger);
    if (workers > 0) {
      const setup = { plan, seed, replace, taken: this.#taken.buffer };
      const onDone = ({ ticket, made }: Made): void => {
        // A sample that nobody waits for any more was in the making when another position was asked for.
        if (ticket >= (this.#pending[0]?.first ?? this.#tickets)) this.#made.set(ticket, made);
      };
      this.#crew = new Crew({ count: workers, dataset, file: "coco/worker.js", setup, onBad, onDone });
      if (options.startAt) this.#ask();
    } else {
      this.#maker = new Maker(dataset, { plan, seed, replace }, onBad);
    }
  }

  /** The bad samples met so far, as far as their batches have been handed out. */
  get bad(): BadReport {
    return this.#ledger.state;
  }

  /**
   * The batches of an epoch, from batch `fromBatch` on (default 0; in the epoch of `startAt`, its batch). One epoch is read at a time: starting
   * another ends the one before.
   */
  async *epoch(epoch: number, fromBatch?: number): AsyncGenerator<RawDetectionBatch, void, void> {
    const { startAt } = this.#options;
    const reader = ++this.#reader;
    for (let batch = fromBatch ?? (epoch === startAt.epoch ? startAt.batch : 0); batch < this.batchesPerEpoch; batch++) {
      if (this.#closed) throw new DataError("The loader is closed.");
      if (reader !== this.#reader) throw new DataError("This epoch of the loader was ended when another was started.");
      const taken = await this.#take({ epoch, batch });
      if (taken.samples.length > 0) yield taken;
    }
  }

  /** Ends the workers. A loader that nobody reads keeps no process alive even without this. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    Atomics.store(this.#taken, 0, this.#tickets);
    await this.#crew?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #samplesOf({ epoch, batch }: Position): Uint32Array {
    const { dataset, seed, shuffle, batchSize, groupShapes } = this.#options;
    if (this.#order?.epoch !== epoch) {
      const order = epochOrder(dataset.length, seed, epoch, shuffle);
      const isWide = (sample: number): boolean => dataset.size(sample)[1] > dataset.size(sample)[0];
      this.#order = { epoch, samples: groupShapes ? groupedByShape(order, batchSize, isWide) : order };
    }
    return this.#order.samples.slice(batch * batchSize, (batch + 1) * batchSize);
  }

  /** Orders batches until enough are in the making. Training goes on into the next epoch. */
  #ask(): void {
    while (this.#pending.length < this.#options.prefetch) {
      if (this.#cursor.batch >= this.batchesPerEpoch) {
        if (!this.#options.shuffle) return;
        this.#cursor = { epoch: this.#cursor.epoch + 1, batch: 0 };
      }
      const samples = this.#samplesOf(this.#cursor);
      const pending = { ...this.#cursor, first: this.#tickets, samples };
      this.#tickets += samples.length;
      this.#pending.push(pending);
      this.#crew!.tell({ first: pending.first, epoch: pending.epoch, samples });
      this.#cursor = { epoch: pending.epoch, batch: pending.batch + 1 };
    }
  }

  async #take(position: Position): Promise<RawDetectionBatch> {
    const start = performance.now();
    const planned = this.#samplesOf(position);
    const made = this.#crew ? await this.#fromWorkers(this.#crew, position) : await this.#byHand(planned, position.epoch);
    const came = Int32Array.from(planned, (sample, row) => made[row]?.index ?? sample);
    this.#ledger.deliver(planned, came);
    const samples = made.filter((each) => each !== undefined);
    return { ...position, samples, waitMs: performance.now() - start };
  }

  async #byHand(planned: Uint32Array, epoch: number): Promise<(DetectionSampleBytes | undefined)[]> {
    const made: (DetectionSampleBytes | undefined)[] = [];
    for (const sample of planned) made.push(await this.#maker!.make(sample, epoch));
    return made;
  }

  async #fromWorkers(crew: Crew<Order, Made>, position: Position): Promise<(DetectionSampleBytes | undefined)[]> {
    const head = this.#pending[0] ?? this.#cursor;
    if (head.epoch !== position.epoch || head.batch !== position.batch) {
      // What nobody has begun is left; what is in the making is thrown away when it comes.
      Atomics.store(this.#taken, 0, this.#tickets);
      this.#pending = [];
      this.#made.clear();
      this.#cursor = position;
    }
    this.#ask();
    const { first, samples } = this.#pending[0]!;
    for (;;) {
      crew.check();
      if (this.#closed) throw new DataError("The loader was closed while a batch was waited for.");
      if (samples.every((_, i) => this.#made.has(first + i))) break;
      await crew.changed();
    }
    this.#pending.shift();
    this.#ask();
    return Array.from(samples, (_, i) => {
      const made = this.#made.get(first + i);
      this.#made.delete(first + i);
      return made;
    });
  }
}

/** Starts a detection loader. */
export function createDetectionLoader(options: DetectionLoaderOptions): DetectionLoader {
  return new DetectionLoader(options);
}
