// Where the data of probes come from: images through a frozen encoder, once and kept as far as memory is given, else anew in every epoch.
import { createLoader, type Dataset, type Loader, plainViews, type RawBatch, toTensors, type ViewPlan } from "../data/index.js";
import type { Encoder } from "../models/index.js";
import {
  autocast,
  cat,
  type Device,
  elementSize,
  fromTypedArray,
  keep,
  noGrad,
  type Tensor,
  tidy,
  zeros,
} from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { FeaturePieces } from "./feature-pieces.js";
import { evalMode, extractFeatures, type FeatureStore, type Features, onlyReadout, viewOf } from "./features.js";
import type { KeepOptions } from "./keep.js";
import { type Load, type ProbeData, type Samples, TableData } from "./probe-data.js";
import type { ProbePlan } from "./probe-plan.js";

/** What a probe is trained on and judged by. */
export interface ProbeImages {
  /** Default: none. The images' own pixels are the features then, the baseline that an encoder has to beat. */
  encoder?: Encoder;
  /** Labelled images to learn from. */
  train: Dataset;
  /** Labelled images to be judged by, with the same classes. */
  test: Dataset;
  /** One view without chance, `evalViews(...)`. */
  plan: ViewPlan;
  /**
   * Learn from the protocol's random crops and flips: `true` takes new ones in every epoch, as the papers do, and with them the features anew;
   * a number takes so many views of each image once, and epochs use them in turn (where they do not fit into memory, as `true`). Default false: one view without chance, taken once.
   */
  augment?: boolean | number;
  /** Bytes of memory for what is kept. What does not fit as float32 is kept as bfloat16, and else taken anew in every epoch. Default 4 GiB. */
  cacheBytes?: number;
  /** Run the encoder under bfloat16 autocast. Default false. */
  bf16?: boolean;
  /** Where the encoder is. Probes are trained on the CPU. Default cpu. */
  device?: Device;
  /** Images that go through the encoder at once. Default 256. */
  encodeBatch?: number;
  /** Worker threads of each loader. Default: the loader's. */
  workers?: number;
  /** Told while features are taken that are kept: images done, and images at all. */
  onFeatures?: (done: number, total: number) => void;
  /** Where features and the state of the training are kept meanwhile; a probe that finds them there goes on. Default: nowhere. */
  keep?: KeepOptions;
  signal?: AbortSignal;
}

/** What is taken of images. */
export interface ProbeReading {
  /** Images float32 [B, C, H, W] to [B, ...]. */
  fn: (images: Tensor) => Tensor;
  /** What it may be kept as, the first that fits; the first is also what is taken anew comes as. */
  stores: readonly FeatureStore[];
}

export interface OpenedData {
  train: ProbeData;
  test: ProbeData;
  /** Numbers kept of an image, [D] or [tokens, C]. */
  shape: readonly number[];
  /** What the training images' are kept as; null where they are taken anew in every epoch. */
  store: FeatureStore | null;
  close(): Promise<void>;
}

const GIB = 2 ** 30;

/** @throws EvaluateError for options that make no sense */
export async function openProbeData(images: ProbeImages, { fn, stores }: ProbeReading, plan: ProbePlan): Promise<OpenedData> {
  const { encoder, train, test, augment = false, cacheBytes = 4 * GIB, bf16 = false, device = "cpu", encodeBatch = 256 } = images;
  const { workers, signal, onFeatures } = images;
  if (typeof augment === "number" && !(Number.isInteger(augment) && augment >= 1)) {
    throw new EvaluateError(`augment is ${augment}; expected true, false or a number of views, 1 or more.`);
  }
  const views = augment === true ? Number.POSITIVE_INFINITY : augment === false ? 1 : augment;
  const shape = shapeOf(fn, images, { bf16, device });
  const numbers = shape.reduce((a, b) => a * b, 1);
  const fits = (count: number, budget: number) => stores.find((store) => count * numbers * elementSize(store) <= budget);
  const bytesOf = (count: number, store: FeatureStore | undefined) => (store ? count * numbers * elementSize(store) : 0);
  // The test images come first: they are fewer, and looked at more often.
  const testStore = fits(test.length, cacheBytes / 2);
  const store = fits(views * train.length, cacheBytes - bytesOf(test.length, testStore));
  const trainPlan = augment === false ? images.plan : croppedPlan(images.plan, plan);
  const { seed } = plan;
  const loaderOf = (dataset: Dataset, view: ViewPlan, shuffle: boolean) =>
    createLoader({
      dataset,
      plan: view,
      batchSize: Math.min(encodeBatch, dataset.length),
      seed,
      shuffle,
      dropLast: false,
      ...(workers !== undefined && { workers }),
    });
  const restore = evalMode(encoder);
  const loaders: Loader[] = [];
  const opened: ProbeData[] = [];
  const close = async () => {
    restore();
    for (const each of opened) each.dispose();
    await Promise.all(loaders.map((loader) => loader.close()));
  };
  const total = (store ? views * train.length : 0) + (testStore ? test.length : 0);
  let before = 0;
  const open = async (dataset: Dataset, view: ViewPlan, kept: FeatureStore | undefined, count: number, training: boolean) => {
    const loader = loaderOf(dataset, view, training && !kept);
    loaders.push(loader);
    const how = { plan: view, fn, bf16, device, store: stores[0]! };
    if (!kept) return new StreamData(loader, dataset.length, how);
    const tables: Features[] = [];
    for (let epoch = 0; epoch < count; epoch++) {
      const start = before;
      const found = await extractFeatures(fn, loader, view, {
        device,
        store: kept,
        bf16,
        epoch,
        ...(images.keep && { pieces: new FeaturePieces(images.keep, `${training ? "train" : "test"}-${epoch}`) }),
        ...(signal && { signal }),
        onProgress: (done) => onFeatures?.(start + Math.min(done, dataset.length), total),
      });
      before += dataset.length;
      tables.push(found);
    }
    const shaped = tables.map(({ features }) => keep(tidy(() => features[onlyReadout]!.view([-1, ...shape]))));
    for (const each of tables) each.dispose();
    return new TableData(shaped, tables[0]!.labels!, { seed });
  };
  try {
    opened.push(await open(test, images.plan, testStore, 1, false));
    opened.push(await open(train, trainPlan, store, views, true));
  } catch (error) {
    await close();
    throw error;
  }
  return { test: opened[0]!, train: opened[1]!, shape, store: store ?? null, close };
}

/** The protocol's crop and flip, at the size and with the normalisation that images are evaluated with. */
function croppedPlan(plan: ViewPlan, { crop }: ProbePlan): ViewPlan {
  const [view] = plan.views;
  return plainViews({ channels: plan.channels, normalization: plan, size: view!.size, ...crop });
}

/** What `fn` gives for one image, without the batch. */
function shapeOf(fn: ProbeReading["fn"], { encoder, plan }: ProbeImages, how: { bf16: boolean; device: Device }): number[] {
  const [height, width] = plan.views[0]!.size;
  const restore = evalMode(encoder);
  try {
    return tidy(() => run(fn, zeros([1, plan.channels, height, width], { device: how.device }), how).shape.slice(1));
  } finally {
    restore();
  }
}

const run = (fn: ProbeReading["fn"], images: Tensor, { bf16, device }: { bf16: boolean; device: Device }): Tensor =>
  noGrad(() => (bf16 ? autocast({ device }, () => fn(images)) : fn(images)));

interface HowToTake {
  plan: ViewPlan;
  fn: ProbeReading["fn"];
  bf16: boolean;
  device: Device;
  store: FeatureStore;
}

/** Takes features whenever they are asked for; in memory is one batch. */
class StreamData implements ProbeData {
  readonly images: number;
  readonly #loader: Loader;
  readonly #how: HowToTake;

  constructor(loader: Loader, images: number, how: HowToTake) {
    this.images = images;
    this.#loader = loader;
    this.#how = how;
  }

  async *batches(batchSize: number, epoch = 0, fromBatch = 0): AsyncIterable<Load> {
    let waiting: Samples[] = [];
    let rows = 0;
    // The loader's batches are others than those asked for: what comes before the first row of these is encoded and left out.
    const skipped = fromBatch * batchSize;
    const first = Math.floor(skipped / this.#loader.batchSize);
    let before = skipped - first * this.#loader.batchSize;
    try {
      for await (const raw of this.#loader.epoch(epoch, first)) {
        waiting.push(this.#encode(raw));
        rows += raw.index.length;
        if (before > 0) {
          const [left, rest] = divided(waiting, before);
          for (const each of left) free(each);
          waiting = rest;
          rows -= before;
          before = 0;
        }
        while (rows >= batchSize) {
          const [taken, rest] = divided(waiting, batchSize);
          waiting = [...taken, ...rest];
          yield () => joined(taken);
          for (const each of taken) free(each);
          waiting = rest;
          rows -= batchSize;
        }
      }
      if (rows > 0) yield () => joined(waiting);
    } finally {
      for (const each of waiting) free(each);
    }
  }

  #encode(raw: RawBatch): Samples {
    const { plan, fn, bf16, device, store } = this.#how;
    return tidy(() => {
      const { views, labels } = toTensors(raw, plan, { device });
      const features = keep(run(fn, viewOf(views, undefined), { bf16, device }).to("cpu").to(store));
      return { features, labels: keep(fromTypedArray(labels!).to("int64")) };
    });
  }

  dispose(): void {}
}

function free({ features, labels }: Samples): void {
  features.dispose();
  labels.dispose();
}

function joined(samples: readonly Samples[]): Samples {
  return { features: cat(samples.map((each) => each.features)), labels: cat(samples.map((each) => each.labels)) };
}

/** The first `count` rows, and the others. */
function divided(samples: readonly Samples[], count: number): [Samples[], Samples[]] {
  const first: Samples[] = [];
  let missing = count;
  for (const [i, each] of samples.entries()) {
    const rows = each.labels.size(0);
    if (rows <= missing) first.push(each);
    else if (missing > 0) {
      const part = (from: number, length: number): Samples => ({
        features: keep(each.features.narrow(0, from, length)),
        labels: keep(each.labels.narrow(0, from, length)),
      });
      const rest = [part(missing, rows - missing), ...samples.slice(i + 1)];
      first.push(part(0, missing));
      free(each);
      return [first, rest];
    } else return [first, samples.slice(i)];
    missing -= Math.min(missing, rows);
  }
  return [first, []];
}
