// Features of a whole dataset: every image once, without augmentation, through a frozen encoder.
import { denormalise, type Loader, type PixelScale, type RawBatch, toTensors } from "../data/index.js";
import type { Module } from "../nn/index.js";
import { autocast, type Device, empty, fromTypedArray, isTensor, keep, noGrad, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import type { FeaturePieces, FeatureRows } from "./feature-pieces.js";
import { turn } from "./turn.js";

/** Images float32 [B, C, H, W], normalised, to features [B, ...]; or several read-outs by name. */
export type FeatureFunction = (images: Tensor) => Tensor | Readonly<Record<string, Tensor>>;

/** What features are kept as. */
export type FeatureStore = "float32" | "bfloat16";

/** What is needed of a loader: `createLoader({ plan: evalViews(...), shuffle: false, dropLast: false, ... })`. */
export type EvaluationLoader = Pick<Loader, "batchSize" | "batchesPerEpoch"> & {
  epoch(epoch: number, fromBatch?: number): AsyncIterable<RawBatch>;
};

export interface ExtractOptions {
  /** Put in eval mode meanwhile; every submodule's own mode is set back afterwards. */
  module?: Module;
  /** Which view holds the images. Default: the only one. */
  view?: string;
  /** Where the encoder is. Default cpu. Features are collected on the CPU. */
  device?: Device;
  /** What features are kept as. Default float32; bfloat16 takes half of the memory. */
  store?: FeatureStore;
  /** Run `fn` under bfloat16 autocast. Default false: DINO's protocol is float32. */
  bf16?: boolean;
  /** Told after each batch: images done and images at most. */
  onProgress?: (done: number, total: number) => void;
  /** Which epoch of the loader; where its plan has chance in it, each gives other views of the images. Default 0. */
  epoch?: number;
  /** Checked before each batch. */
  signal?: AbortSignal;
  /** Where rows are kept meanwhile, and taken from by who goes on. Default: nowhere. */
  pieces?: FeaturePieces;
}

/** Features in the order of the dataset. Whoever asked for them disposes them. */
export interface Features {
  /** [N, D] by read-out ("features" where `fn` gives a single Tensor); read-outs of more dimensions are flattened. */
  readonly features: Readonly<Record<string, Tensor>>;
  /** The sample of each row, ascending. Samples that could not be read are missing. */
  readonly index: Int32Array;
  /** -1 for a sample without a label. */
  readonly labels?: Int32Array;
  /** Frees all features. */
  dispose(): void;
}

/** The read-out name of a function that gives a single Tensor. */
export const onlyReadout = "features";

/** Rows as they come, for all read-outs. */
class Collector {
  readonly #capacity: number;
  readonly #tables = new Map<string, Tensor>();
  readonly #index: Int32Array;
  #labels: Int32Array | undefined;
  #rows = 0;
  /** Rows of pieces that are written. */
  #written = 0;

  constructor(
    capacity: number,
    readonly store: FeatureStore,
  ) {
    this.#capacity = capacity;
    this.#index = new Int32Array(capacity);
  }

  add(readouts: Readonly<Record<string, Tensor>>, batch: { index: Int32Array; labels?: Int32Array }): void {
    const count = batch.index.length;
    if (this.#rows + count > this.#capacity)
      throw new EvaluateError(`internal: the loader gave more than ${this.#capacity} images`);
    const names = Object.keys(readouts);
    if (names.length === 0)
      throw new EvaluateError("The feature function gave no read-out; expected a Tensor or Tensors by name.");
    if (this.#rows > 0 && names.join() !== [...this.#tables.keys()].join()) {
      throw new EvaluateError(
        `The feature function gave ${names.join(", ")} after ${[...this.#tables.keys()].join(", ")}; always give the same.`,
      );
    }
    for (const [name, value] of Object.entries(readouts)) this.#put(name, value, count);
    this.#index.set(batch.index, this.#rows);
    if (batch.labels) {
      this.#labels ??= new Int32Array(this.#capacity);
      this.#labels.set(batch.labels, this.#rows);
    }
    this.#rows += count;
  }

  #put(name: string, value: Tensor, count: number): void {
    if (!isTensor(value) || value.ndim < 2 || value.size(0) !== count) {
      const what = isTensor(value) ? `shape [${value.shape.join(", ")}]` : typeof value;
      throw new EvaluateError(`Read-out "${name}" gave ${what} for ${count} images; expected a Tensor [${count}, D].`);
    }
    tidy(() => {
      const rows = value.flatten(1);
      let table = this.#tables.get(name);
      if (!table) {
        table = keep(empty([this.#capacity, rows.size(1)], { dtype: this.store }));
        this.#tables.set(name, table);
      }
      if (table.size(1) !== rows.size(1)) {
        throw new EvaluateError(
          `Read-out "${name}" gave ${rows.size(1)} numbers an image after ${table.size(1)}; all images need one size.`,
        );
      }
      table.narrow(0, this.#rows, count).copy_(rows);
    });
  }

  /** Takes the rows that were written before. Returns how many batches they are of. */
  restore(pieces: FeaturePieces): number {
    const batches = pieces.restore(({ readouts, ...batch }) => this.add(readouts, batch));
    this.#written = this.#rows;
    return batches;
  }

  /** The rows since the last piece. */
  write(pieces: FeaturePieces, batches: number): void {
    const [from, to] = [this.#written, this.#rows];
    if (from === to) return;
    tidy(() => {
      const readouts = Object.fromEntries([...this.#tables].map(([name, table]) => [name, table.narrow(0, from, to - from)]));
      const labels = this.#labels?.slice(from, to);
      const rows: FeatureRows = { readouts, index: this.#index.slice(from, to), ...(labels && { labels }) };
      pieces.write(rows, batches);
    });
    this.#written = to;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Which rows to keep: in the order of the samples, each once (the loader puts another sample in the place of a bad one). */
  finish(): Features {
    const index = this.#index.subarray(0, this.#rows);
    const inOrder = index.every((sample, i) => i === 0 || sample > index[i - 1]!);
    const order = Int32Array.from(index, (_, i) => i);
    const kept = inOrder
      ? order
      : order
          .sort((a, b) => index[a]! - index[b]! || a - b)
          .filter((row, i, all) => i === 0 || index[row] !== index[all[i - 1]!]);
    const features: Record<string, Tensor> = {};
    for (const [name, table] of this.#tables) {
      features[name] = keep(tidy(() => (inOrder ? table.narrow(0, 0, this.#rows) : table.indexSelect(0, rowNumbers(kept)))));
    }
    this.dispose();
    const labels = this.#labels;
    return {
      features,
      index: Int32Array.from(kept, (row) => index[row]!),
      ...(labels && { labels: Int32Array.from(kept, (row) => labels[row]!) }),
      dispose: () => {
        for (const each of Object.values(features)) each.dispose();
      },
    };
  }

  dispose(): void {
    for (const table of this.#tables.values()) table.dispose();
    this.#tables.clear();
  }
}

const rowNumbers = (rows: Int32Array): Tensor => fromTypedArray(rows).to("int64");

/** The pixels themselves as features, as values from 0 to 1: the baseline that an encoder has to beat. */
export function pixelFeatures(plan: PixelScale): (images: Tensor) => Tensor {
  return (images) => denormalise(images, plan).flatten(1);
}

/** Puts a module in eval mode; what it returns sets every submodule's own mode back. */
export function evalMode(module: Module | undefined): () => void {
  if (!module) return () => {};
  const modes = Array.from(module.namedModules(), ([, each]) => [each, each.training] as const);
  module.eval();
  return () => {
    for (const [each, training] of modes) each.training = training;
  };
}

export function viewOf(views: Readonly<Record<string, Tensor>>, name: string | undefined): Tensor {
  const names = Object.keys(views);
  if (name === undefined && names.length !== 1) {
    throw new EvaluateError(`The loader makes the views ${names.join(", ")}; say which one holds the images with { view }.`);
  }
  const images = views[name ?? names[0]!];
  if (!images) throw new EvaluateError(`The loader makes no view "${name}"; it makes ${names.join(", ")}.`);
  if (images.size(0) !== 1) {
    throw new EvaluateError(
      `View "${name ?? names[0]}" has ${images.size(0)} crops an image; features are taken of one (evalViews makes one).`,
    );
  }
  return images.select(0, 0);
}

/**
 * The features of all images of a loader, without gradients. Memory: the features, and one batch at a time.
 *
 * @param loader made with shuffle: false and dropLast: false
 * @param plan the loader's plan, for its mean and std
 */
export async function extractFeatures(
  fn: FeatureFunction,
  loader: EvaluationLoader,
  plan: PixelScale,
  options: ExtractOptions = {},
): Promise<Features> {
  const { module, view, device = "cpu", store = "float32", bf16 = false, epoch = 0, onProgress, signal, pieces } = options;
  const total = loader.batchesPerEpoch * loader.batchSize;
  const collector = new Collector(total, store);
  const restore = evalMode(module);
  try {
    let batches = pieces ? collector.restore(pieces) : 0;
    let done = collector.rows;
    for await (const raw of loader.epoch(epoch, batches)) {
      signal?.throwIfAborted();
      tidy(() =>
        noGrad(() => {
          const batch = toTensors(raw, plan, { device });
          const images = viewOf(batch.views, view);
          const given = bf16 ? autocast({ device }, () => fn(images)) : fn(images);
          collector.add(isTensor(given) ? { [onlyReadout]: given } : given, batch);
        }),
      );
      done += raw.index.length;
      batches += 1;
      if (pieces?.due()) collector.write(pieces, batches);
      onProgress?.(done, total);
      // Batches that are ready are promises already kept: without this turn of the event loop no signal would be heard.
      await turn();
    }
    if (pieces) collector.write(pieces, batches);
    if (done === 0) throw new EvaluateError("The loader gave no images.");
    return collector.finish();
  } finally {
    restore();
    collector.dispose();
  }
}
