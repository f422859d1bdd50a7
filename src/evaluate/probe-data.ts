// What probes learn from and are judged by, batch by batch: from features that are kept in memory, or taken anew whenever they are needed.
import { epochOrder } from "../data/index.js";
import { fromTypedArray, keep, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError } from "./errors.js";

/** What was kept of some images, and their classes. */
export interface Samples {
  /** [B, ...], as it was kept. */
  features: Tensor;
  /** int64 [B] */
  labels: Tensor;
}

/** Gives a batch's tensors to the scope it is called in; once. */
export type Load = () => Samples;

export interface ProbeData {
  readonly images: number;
  /** The images of an epoch in its order, from a batch on; without one, all as they come. The last batch may be smaller. */
  batches(batchSize: number, epoch?: number, fromBatch?: number): AsyncIterable<Load> | Iterable<Load>;
  dispose(): void;
}

/** Rows in memory. Several tables hold different views of the same images; epochs take them in turn. */
export class TableData implements ProbeData {
  readonly images: number;
  readonly #tables: readonly Tensor[];
  readonly #labels: Tensor;
  readonly #seed: number;

  /** @param tables [N, ...] each; they are disposed with this object @param labels class numbers */
  constructor(tables: readonly Tensor[], labels: ArrayLike<number>, { seed }: { seed: number }) {
    const [images = 0] = tables[0]!.shape;
    if (images !== labels.length)
      throw new EvaluateError(`There are ${labels.length} labels for ${images} features; expected one each.`);
    this.images = images;
    this.#tables = tables;
    this.#labels = keep(tidy(() => fromTypedArray(Int32Array.from(labels)).to("int64")));
    this.#seed = seed;
  }

  *batches(batchSize: number, epoch?: number, fromBatch = 0): Iterable<Load> {
    const table = this.#tables[(epoch ?? 0) % this.#tables.length]!;
    const order = epoch === undefined ? undefined : epochOrder(this.images, this.#seed, epoch, true);
    for (let from = fromBatch * batchSize; from < this.images; from += batchSize) {
      const count = Math.min(batchSize, this.images - from);
      yield () => {
        if (!order) return { features: table.narrow(0, from, count), labels: this.#labels.narrow(0, from, count) };
        const rows = fromTypedArray(Int32Array.from(order.subarray(from, from + count))).to("int64");
        return { features: table.indexSelect(0, rows), labels: this.#labels.indexSelect(0, rows) };
      };
    }
  }

  dispose(): void {
    for (const each of [...this.#tables, this.#labels]) each.dispose();
  }
}
