// The evaluations of a study: the features of an encoder are taken once, and everything that is measured is measured on them.
import { createLoader, type Dataset, subset, type ViewPlan } from "../data/index.js";
import {
  attentivePlan,
  attentiveProbe,
  extractFeatures,
  type Features,
  fitLinear,
  knn,
  type LabelledFeatures,
  type MemberResult,
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

type Split = "train" | "test";
type Labelled = LabelledFeatures & { labels: Int32Array };

/** What one kind of evaluation measured, by column: top-1 in percent first of all. */
export type Measured = Record<string, { top1: number } & Record<string, number>>;

/** What is evaluated: an encoder, or the images' own pixels. */
export type Subject = "encoder" | "pixels";

/** What a kind of evaluation works on. */
interface Material {
  /** None where the pixels themselves are evaluated. */
  encoder: Encoder | undefined;
  /** The labelled splits. */
  train: Dataset;
  test: Dataset;
  plan: ViewPlan;
  /** Features of both by read-out, of one pass over the images; later calls give the same. */
  features(): Promise<{ train: Features; test: Features }>;
  evaluate: Protocols;
  workers: number | undefined;
  signal: AbortSignal | undefined;
}

/** One kind of evaluation. */
interface Kind {
  /** All that its result depends on, besides images and encoder. Undefined where the study does not ask for it. */
  settings(evaluate: Protocols): object | undefined;
  /** What it reads off an encoder, of those features that are taken once. */
  readouts(evaluate: Protocols): readonly Readout[];
  /** Whether there is nothing to measure without an encoder. */
  encoderOnly?: boolean;
  /** @throws EvaluateError where the protocol does not fit the encoder */
  check?(evaluate: Protocols, encoder: Encoder): void;
  measure(material: Material): Promise<Measured>;
}

/** The read-out that stands for every other where there is no encoder. */
export const pixels = "pixels";

/** Those of the wanted read-outs that are there, with the features to learn from and to be judged by. */
async function* readoutsIn(material: Material, wanted: readonly Readout[]): AsyncGenerator<[Readout, Record<Split, Labelled>]> {
  const { train, test } = await material.features();
  for (const name of [...wanted, pixels]) {
    const [learnt, judged] = [train.features[name], test.features[name]];
    if (!learnt || !judged) continue;
    yield [name, { train: { features: learnt, labels: train.labels! }, test: { features: judged, labels: test.labels! } }];
  }
}

const classesOf = ({ train }: Material): number => train.classes!.length;

const knnKind: Kind = {
  settings: ({ knn }) => knn,
  readouts: ({ knn }) => knn.readouts,
  measure: async (material) => {
    const { k, temperature, readouts } = material.evaluate.knn;
    const measured: Measured = {};
    for await (const [readout, { train, test }] of readoutsIn(material, readouts)) {
      const labels = { bankLabels: train.labels, labels: test.labels };
      const classes = classesOf(material);
      const shares = knn({ bank: train.features, queries: test.features, ...labels, classes, k, temperature });
      for (const each of k) {
        measured[`${readout} ${each}`] = { top1: 100 * shares.top1[each]!, top5: 100 * shares.top5[each]! };
      }
    }
    return measured;
  },
};

const linearKind: Kind = {
  settings: ({ linear }) => linear,
  readouts: ({ linear }) => linear?.readouts ?? [],
  measure: async (material) => {
    const { evaluate, signal } = material;
    const { readouts, ...protocol } = evaluate.linear!;
    const measured: Measured = {};
    for await (const [readout, labelled] of readoutsIn(material, readouts)) {
      const { best } = await fitLinear({ ...labelled, classes: classesOf(material), protocol, ...(signal && { signal }) });
      measured[readout] = scoresOf(best);
    }
    return measured;
  },
};

const attentiveKind: Kind = {
  settings: ({ attentive }) => attentive,
  readouts: () => [], // it takes tokens, which are far more than features, by itself
  encoderOnly: true,
  check: ({ attentive }, { width }) => void (attentive && attentivePlan(attentive, Number.POSITIVE_INFINITY, width)),
  measure: async ({ encoder, train, test, plan, evaluate, workers, signal }) => {
    const { best } = await attentiveProbe({
      encoder: encoder!,
      train,
      test,
      plan,
      protocol: evaluate.attentive!,
      ...(workers !== undefined && { workers }),
      ...(signal && { signal }),
    });
    return { tokens: scoresOf(best) };
  },
};

const scoresOf = ({ top1, top5, baseLr, epoch }: MemberResult) => ({ top1: 100 * top1, top5: 100 * top5, baseLr, epoch });

export const kinds = { knn: knnKind, linear: linearKind, attentive: attentiveKind };

export type KindName = keyof typeof kinds;
export const kindNames = Object.keys(kinds) as KindName[];

/** Everything that the result of an evaluation depends on, besides the encoder's weights; undefined where it is not made. */
export function settingsOf(
  kind: KindName,
  { data, model, evaluate, subject }: Pick<Recipe, "data" | "model"> & { evaluate: Protocols; subject: Subject },
): object | undefined {
  const { settings, encoderOnly = false } = kinds[kind];
  const own = encoderOnly && subject === "pixels" ? undefined : settings(evaluate);
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
  const { encoder, data, evaluate, wanted, signal, workers, onResult } = options;
  let since = performance.now();
  const splits = await labelledSplits(data);
  const train = partOf(splits.train, evaluate.trainImages);
  const test = partOf(splits.test, evaluate.testImages);
  const plan = evaluationPlan({ data });
  let taken: Record<Split, Features> | undefined;
  const features = async () => (taken ??= await featuresOf(options, { train, test, plan }));
  const material = { encoder, train, test, plan, features, evaluate, workers, signal };
  try {
    for (const kind of wanted) {
      signal?.throwIfAborted();
      const measured = await kinds[kind].measure(material);
      const { index: learnt } = taken?.train ?? { index: train };
      const { index: judged } = taken?.test ?? { index: test };
      const images = { train: learnt.length, test: judged.length };
      const at = performance.now();
      onResult(kind, { measured, images, seconds: (at - since) / 1000 }); // the features' time is the first one's
      since = at;
      await new Promise((resolve) => setImmediate(resolve)); // to hear a signal
    }
  } finally {
    for (const each of Object.values(taken ?? {})) each.dispose();
  }
}

const partOf = (dataset: Dataset, count: number | undefined): Dataset =>
  count === undefined || count >= dataset.length ? dataset : subset(dataset, count);

/** All read-outs that are wanted and that the encoder can give, of one pass over the images. */
async function featuresOf(
  { encoder, evaluate, wanted, signal, workers }: EvaluationOptions,
  { plan, ...splits }: Record<Split, Dataset> & { plan: ViewPlan },
): Promise<Record<Split, Features>> {
  const names = new Set(wanted.flatMap((kind) => kinds[kind].readouts(evaluate)));
  const given = encoder && [...names].filter((name) => !readoutProblem(name, encoder));
  const fn = given ? readoutsOf(encoder, given) : pixelsOf(plan);
  const take = async (dataset: Dataset): Promise<Features> => {
    const loader = createLoader({
      dataset,
      plan,
      batchSize: Math.min(256, dataset.length),
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
  const train = await take(splits.train);
  try {
    return { train, test: await take(splits.test) };
  } catch (error) {
    train.dispose();
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
