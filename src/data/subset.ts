// A part of a dataset, chosen by seed and balanced over the classes.
import { createHash } from "node:crypto";
import type { Dataset, DatasetSpec } from "./dataset.js";
import { sharedInts } from "./dataset.js";
import { DataError } from "./errors.js";
import type { Pixels } from "./pixels.js";
import { Rng, SUBSET_STREAM } from "./rng.js";
import type { Normalization } from "./views.js";

/** The samples of `indices`, in that order. */
export class SubsetDataset implements Dataset {
  static readonly kind = "subset";
  readonly name: string;
  readonly length: number;
  readonly classes?: readonly string[];
  readonly pixelClasses?: readonly string[];
  readonly normalization?: Normalization;
  readonly channels?: 1 | 3;
  readonly #whole: Dataset;
  readonly #indices: Int32Array<SharedArrayBuffer>;

  constructor(whole: Dataset, indices: Int32Array<SharedArrayBuffer>) {
    this.#whole = whole;
    this.#indices = indices;
    this.length = indices.length;
    this.name = `${whole.name}, ${indices.length} of ${whole.length}`;
    if (whole.classes) this.classes = whole.classes;
    if (whole.pixelClasses) this.pixelClasses = whole.pixelClasses;
    if (whole.normalization) this.normalization = whole.normalization;
    if (whole.channels) this.channels = whole.channels;
  }

  get spec(): DatasetSpec {
    return { kind: SubsetDataset.kind, payload: { whole: this.#whole.spec, indices: this.#indices } };
  }

  label(index: number): number | undefined {
    return this.#whole.label(this.#indices[index]!);
  }

  path(index: number): string {
    return this.#whole.path(this.#indices[index]!);
  }

  get fingerprint(): string | undefined {
    const { fingerprint } = this.#whole;
    if (fingerprint === undefined) return undefined;
    return createHash("sha256").update(fingerprint).update(Int32Array.from(this.#indices)).digest("hex");
  }

  stamp(index: number): number {
    return this.#whole.stamp?.(this.#indices[index]!) ?? 0;
  }

  read(index: number): Pixels | Promise<Pixels> {
    return this.#whole.read(this.#indices[index]!);
  }
}

/**
 * `count` samples of a dataset, the same for the same seed, in the dataset's order. With labels, every class gets an equal share
 * (as far as it has samples); a larger subset of the same seed contains the smaller ones.
 */
export function subset(dataset: Dataset, count: number, seed = 0): Dataset {
  if (!Number.isInteger(count) || count < 1)
    throw new DataError(`A subset of ${count} samples; expected a whole number, 1 or more.`);
  if (count > dataset.length) throw new DataError(`A subset of ${count} samples, but ${dataset.name} has ${dataset.length}.`);
  const order = new Uint32Array(dataset.length);
  for (let i = 0; i < order.length; i++) order[i] = i;
  new Rng(seed, 0, 0, SUBSET_STREAM).shuffle(order);
  // Deal the classes in rounds: each round takes the next sample of every class that has one left.
  const queues = new Map<number, number[]>();
  for (const index of order) {
    const label = dataset.label(index) ?? -1;
    const queue = queues.get(label);
    if (queue) queue.push(index);
    else queues.set(label, [index]);
  }
  const chosen: number[] = [];
  for (let round = 0; chosen.length < count; round++) {
    for (const queue of queues.values()) {
      if (round < queue.length && chosen.length < count) chosen.push(queue[round]!);
    }
  }
  const indices = sharedInts(chosen.sort((a, b) => a - b));
  return dataset.pick?.(indices) ?? new SubsetDataset(dataset, indices);
}
