// The evaluations of a study: the features of an encoder are taken once, and everything that is measured is measured on them.
import { createLoader, type Dataset, subset, type ViewPlan } from "../data/index.js";
import {
  extractFeatures,
  type Features,
  fitLinear,
  knn,
  pixelFeatures,
  type Readout,
  readoutProblem,
  readoutsOf,
} from "../evaluate/index.js";
import { RunError } from "../fit/index.js";
import type { Encoder } from "../models/index.js";
import { evaluationPlan, knnSplits } from "./online-knn.js";
import type { DataRecipe, Recipe } from "./recipe.js";
import type { Protocols } from "./study.js";

/** What one kind of evaluation measured, by column: top-1 in percent first of all. */
export type Measured = Record<string, { top1: number } & Record<string, number>>;

/** What a kind of evaluation works on. */
interface Material {
  /** Features of the labelled splits by read-out. */
  train: Features;
  test: Features;
  classes: number;
  evaluate: Protocols;
  signal: AbortSignal | undefined;
}

/** One kind of evaluation. */
interface Kind {
  /** All that its result depends on, besides images and encoder. Undefined where the study does not ask for it. */
  settings(evaluate: Protocols): { readouts: Readout[] } | undefined;
  measure(material: Material): Promise<Measured> | Measured;
}

/** The read-out that stands for every other where there is no encoder. */
export const pixels = "pixels";

/** Those of the wanted read-outs that are there. */
function* readoutsIn(
  { train, test }: Material,
  wanted: readonly Readout[],
): Generator<[Readout, Features["features"][string][]]> {
  for (const name of [...wanted, pixels]) {
    const [bank, queries] = [train.features[name], test.features[name]];
    if (bank && queries) yield [name, [bank, queries]];
  }
}

export const kinds = {
  knn: {
    settings: ({ knn }) => knn,
    measure: (material) => {
      const { train, test, classes, evaluate } = material;
      const { k, temperature, readouts } = evaluate.knn;
      const measured: Measured = {};
      for (const [readout, [bank, queries]] of readoutsIn(material, readouts)) {
        const labels = { bankLabels: train.labels!, labels: test.labels! };
        const shares = knn({ bank: bank!, queries: queries!, ...labels, classes, k, temperature });
        for (const each of k) {
          measured[`${readout} ${each}`] = { top1: 100 * shares.top1[each]!, top5: 100 * shares.top5[each]! };
        }
      }
      return measured;
    },
  },
  linear: {
    settings: ({ linear }) => linear,
    measure: async (material) => {
      const { train, test, classes, evaluate, signal } = material;
      const { readouts, ...protocol } = evaluate.linear!;
      const measured: Measured = {};
      for (const [readout, [learnt, judged]] of readoutsIn(material, readouts)) {
        const { best } = await fitLinear({
          train: { features: learnt!, labels: train.labels! },
          test: { features: judged!, labels: test.labels! },
          classes,
          protocol,
          ...(signal && { signal }),
        });
        measured[readout] = { top1: 100 * best.top1, top5: 100 * best.top5, baseLr: best.baseLr, epoch: best.epoch };
      }
      return measured;
    },
  },
} satisfies Record<string, Kind>;

export type KindName = keyof typeof kinds;
export const kindNames = Object.keys(kinds) as KindName[];

/** Everything that the result of an evaluation depends on, besides the encoder's weights; undefined where the study does not ask for it. */
export function settingsOf(
  kind: KindName,
  { data, model, evaluate }: Pick<Recipe, "data" | "model"> & { evaluate: Protocols },
): object | undefined {
  const own = kinds[kind].settings(evaluate);
  const { trainImages, testImages } = evaluate;
  return own && { ...own, trainImages, testImages, data, model };
}

export interface EvaluationOptions {
  /** What is evaluated; the pixels themselves where there is none. */
  encoder?: Encoder | undefined;
  data: DataRecipe;
  evaluate: Protocols;
  /** Which are to be made. */
  wanted: readonly KindName[];
  /** Threads that decode. */
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Called with each result as soon as it is there. */
  onResult(kind: KindName, result: { measured: Measured; images: { train: number; test: number }; seconds: number }): void;
}

/** Makes evaluations of one encoder, on features that are taken once. */
export async function evaluateEncoder(options: EvaluationOptions): Promise<void> {
  const { evaluate, wanted, signal, onResult } = options;
  let since = performance.now();
  const { train, test, classes } = await featuresOf(options);
  const images = { train: train.index.length, test: test.index.length };
  try {
    for (const kind of wanted) {
      signal?.throwIfAborted();
      const measured = await kinds[kind].measure({ train, test, classes, evaluate, signal });
      const at = performance.now();
      onResult(kind, { measured, images, seconds: (at - since) / 1000 }); // the features' time is the first one's
      since = at;
      await new Promise((resolve) => setImmediate(resolve)); // to hear a signal
    }
  } finally {
    train.dispose();
    test.dispose();
  }
}

/** All read-outs that are wanted and that the encoder can give, of one pass over the images. */
async function featuresOf(options: EvaluationOptions): Promise<Pick<Material, "train" | "test" | "classes">> {
  const { encoder, data, evaluate, wanted, signal, workers } = options;
  const { train, test } = await labelledSplits(data);
  const plan = evaluationPlan({ data });
  const names = new Set(wanted.flatMap((kind) => kinds[kind].settings(evaluate)?.readouts ?? []));
  const given = encoder && [...names].filter((name) => !readoutProblem(name, encoder));
  const fn = given ? readoutsOf(encoder, given) : pixelsOf(plan);
  const take = async (dataset: Dataset, count: number | undefined): Promise<Features> => {
    const part = count === undefined || count >= dataset.length ? dataset : subset(dataset, count);
    const loader = createLoader({
      dataset: part,
      plan,
      batchSize: Math.min(256, part.length),
      shuffle: false,
      dropLast: false,
      ...(workers !== undefined && { workers }),
    });
    try {
      return await extractFeatures(fn, loader, plan, { ...(encoder && { module: encoder }), ...(signal && { signal }) });
    } finally {
      await loader.close();
    }
  };
  const learned = await take(train, evaluate.trainImages);
  try {
    return { train: learned, test: await take(test, evaluate.testImages), classes: train.classes!.length };
  } catch (error) {
    learned.dispose();
    throw error;
  }
}

function pixelsOf(plan: ViewPlan) {
  const flat = pixelFeatures(plan);
  return (images: Parameters<typeof flat>[0]) => ({ [pixels]: flat(images) });
}

/** The images to evaluate on. @throws RunError where they have no labels or not the same ones */
export async function labelledSplits(data: DataRecipe): Promise<{ train: Dataset; test: Dataset }> {
  const splits = await knnSplits({ data });
  if (!splits) {
    throw new RunError(
      `${data.train} and ${data.test} cannot be evaluated on: both need labels; give evaluate.data with labelled images: { train, test }`,
    );
  }
  if (splits.train.classes!.join("\n") !== splits.test.classes!.join("\n")) {
    throw new RunError(
      `${splits.train.name} and ${splits.test.name} have different classes; an evaluation needs the same in both`,
    );
  }
  return splits;
}
