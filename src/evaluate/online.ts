// k-NN of an encoder: the training split as the bank, the test split as queries. The evaluator keeps its loaders, so that a training loop
// can ask every few epochs; a part of the bank makes that fast.
import { createLoader, type Dataset, type Loader, subset, type ViewPlan } from "../data/index.js";
import { FeaturePieces } from "./feature-pieces.js";
import { type ExtractOptions, extractFeatures, type FeatureFunction, type Features } from "./features.js";
import type { KeepOptions } from "./keep.js";
import { type KnnOptions, type KnnResult, knn } from "./knn.js";
import { sharedClasses } from "./labels.js";

export interface KnnEvaluatorOptions extends Pick<KnnOptions, "k" | "temperature" | "confusion"> {
  /** The bank: a labelled training split. */
  train: Dataset;
  /** The queries: a labelled test split with the same classes. */
  test: Dataset;
  /** One view without chance, `evalViews(...)`. */
  plan: ViewPlan;
  /** Only so many samples of the bank, balanced over the classes. Default: all. */
  bankSize?: number;
  /** Only so many queries, balanced over the classes. Default: all. */
  querySize?: number;
  /** Chooses both subsets. Default 0. */
  seed?: number;
  /** Default 256. */
  batchSize?: number;
  /** Worker threads of each loader. Default: the loader's. */
  workers?: number;
  /** Where features are kept meanwhile; who finds them there goes on. For one encoder only. Default: nowhere. */
  keep?: KeepOptions;
}

export interface KnnEvaluation {
  /** Results by read-out ("features" where the function gives a single Tensor). */
  readonly readouts: Readonly<Record<string, KnnResult>>;
  /** Features in the bank and queries, after bad samples were left out. */
  readonly bank: number;
  readonly queries: number;
  /** Wall time of both parts. */
  readonly seconds: { readonly features: number; readonly knn: number };
}

export class KnnEvaluator {
  readonly #options: KnnEvaluatorOptions;
  readonly #classes: number;
  /** Images of both splits, [bank, queries]. */
  readonly #sizes: [number, number];
  readonly #bank: Loader;
  readonly #queries: Loader;

  constructor(options: KnnEvaluatorOptions) {
    this.#options = options;
    const { train, test, plan, bankSize, querySize, seed = 0, batchSize = 256, workers } = options;
    this.#classes = sharedClasses(train, test, "k-NN").length;
    this.#sizes = [Math.min(bankSize ?? Infinity, train.length), Math.min(querySize ?? Infinity, test.length)];
    const loaderOf = (dataset: Dataset, size: number | undefined): Loader =>
      createLoader({
        dataset: size === undefined || size >= dataset.length ? dataset : subset(dataset, size, seed),
        plan,
        batchSize,
        shuffle: false,
        dropLast: false,
        ...(workers !== undefined && { workers }),
      });
    this.#bank = loaderOf(train, bankSize);
    this.#queries = loaderOf(test, querySize);
  }

  /** Features of both splits, then k-NN for every read-out. `onProgress` counts the images of both. */
  async run(fn: FeatureFunction, options: ExtractOptions = {}): Promise<KnnEvaluation> {
    const { plan, k, temperature, confusion = false, keep } = this.#options;
    const [bankSize, querySize] = this.#sizes;
    const total = bankSize + querySize;
    const start = performance.now();
    const extract = (name: string, loader: Loader, before: number): Promise<Features> =>
      extractFeatures(fn, loader, plan, {
        ...options,
        ...(keep && { pieces: new FeaturePieces(keep, name) }),
        onProgress: (done) => options.onProgress?.(before + done, total),
      });
    const bank = await extract("bank", this.#bank, 0);
    try {
      const queries = await extract("queries", this.#queries, bankSize);
      try {
        const between = performance.now();
        const readouts: Record<string, KnnResult> = {};
        for (const [name, features] of Object.entries(queries.features)) {
          readouts[name] = knn({
            bank: bank.features[name]!,
            bankLabels: bank.labels!,
            queries: features,
            labels: queries.labels!,
            classes: this.#classes,
            confusion,
            ...(k && { k }),
            ...(temperature !== undefined && { temperature }),
          });
        }
        const seconds = { features: (between - start) / 1000, knn: (performance.now() - between) / 1000 };
        return { readouts, bank: bank.index.length, queries: queries.index.length, seconds };
      } finally {
        queries.dispose();
      }
    } finally {
      bank.dispose();
    }
  }

  /** Ends the loaders' workers. */
  async close(): Promise<void> {
    await Promise.all([this.#bank.close(), this.#queries.close()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** One k-NN evaluation from start to end. */
export async function evaluateKnn(
  options: KnnEvaluatorOptions & ExtractOptions & { fn: FeatureFunction },
): Promise<KnnEvaluation> {
  const evaluator = new KnnEvaluator(options);
  try {
    return await evaluator.run(options.fn, options);
  } finally {
    await evaluator.close();
  }
}
