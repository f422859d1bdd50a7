// The evaluations of a study: the features of an encoder are taken once, and everything that is measured is measured on them.
import { createLoader, type Dataset, subset, type ViewPlan } from "../data/index.js";
import { extractFeatures, type FeatureFunction, type Features, knn } from "../evaluate/index.js";
import type { Encoder } from "../models/index.js";
import { RunError } from "./errors.js";
import { evaluationPlan, knnSplits } from "./online-knn.js";
import type { DataRecipe, Recipe } from "./recipe.js";
import type { Study } from "./study.js";

type Settings = Study["evaluate"];

/** What one kind of evaluation measured, by column: top-1 in percent first of all. */
export type Measured = Record<string, { top1: number } & Record<string, number>>;

/** Features of the labelled splits. */
interface Splits {
  train: Features;
  test: Features;
  classes: number;
}

/** One kind of evaluation. */
interface Kind {
  /** All that its result depends on, besides the images. Undefined where the study does not ask for it. */
  settings(evaluate: Settings): object | undefined;
  measure(splits: Splits, evaluate: Settings): Measured;
}

export const kinds = {
  knn: {
    settings: ({ knn }) => knn,
    measure: ({ train, test, classes }, { knn: { k, temperature } }) => {
      const measured: Measured = {};
      for (const [readout, queries] of Object.entries(test.features)) {
        const bank = train.features[readout]!;
        const shares = knn({ bank, queries, bankLabels: train.labels!, labels: test.labels!, classes, k, temperature });
        for (const each of k) {
          measured[`${readout} ${each}`] = { top1: 100 * shares.top1[each]!, top5: 100 * shares.top5[each]! };
        }
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
  { data, model, evaluate }: Pick<Recipe, "data" | "model"> & { evaluate: Settings },
): object | undefined {
  const own = kinds[kind].settings(evaluate);
  const { trainImages, testImages } = evaluate;
  return own && { ...own, trainImages, testImages, data, model };
}

/** What is evaluated. */
export interface Subject {
  /** Read-outs by name of images, given the plan they are made by. */
  features(plan: ViewPlan): FeatureFunction;
  encoder?: Encoder;
}

export interface EvaluationOptions {
  data: DataRecipe;
  evaluate: Settings;
  /** Which are to be made. */
  wanted: readonly KindName[];
  /** Threads that decode. */
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Called with each result as soon as it is there. */
  onResult(kind: KindName, result: { measured: Measured; images: { train: number; test: number }; seconds: number }): void;
}

/** Makes evaluations of one subject, on features that are taken once. */
export async function evaluateSubject(subject: Subject, options: EvaluationOptions): Promise<void> {
  const { evaluate, wanted, signal, onResult } = options;
  let since = performance.now();
  const splits = await featuresOf(subject, options);
  const images = { train: splits.train.index.length, test: splits.test.index.length };
  try {
    for (const kind of wanted) {
      signal?.throwIfAborted();
      const measured = kinds[kind].measure(splits, evaluate);
      const now = performance.now();
      onResult(kind, { measured, images, seconds: (now - since) / 1000 }); // the features' time is the first one's
      since = now;
      await new Promise((resolve) => setImmediate(resolve)); // to hear a signal
    }
  } finally {
    splits.train.dispose();
    splits.test.dispose();
  }
}

async function featuresOf(subject: Subject, options: EvaluationOptions): Promise<Splits> {
  const { data, evaluate, signal, workers } = options;
  const { train, test } = await labelledSplits(data);
  const plan = evaluationPlan({ data });
  const fn = subject.features(plan);
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
      return await extractFeatures(fn, loader, plan, {
        ...(subject.encoder && { module: subject.encoder }),
        ...(signal && { signal }),
      });
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
