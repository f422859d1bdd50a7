// k-NN while training: what the loss of a method does not say is whether its features get better.
import { type Dataset, evalViews, openDataset, type ViewPlan } from "../data/index.js";
import { type KnnEvaluation, KnnEvaluator, readoutOf } from "../evaluate/index.js";
import type { MetricsLine } from "../fit/index.js";
import type { Encoder } from "../models/index.js";
import type { Recipe } from "./recipe.js";

/** One view of an image for evaluations, as the recipe's data section has it. */
export function evaluationPlan({ data }: Pick<Recipe, "data">): ViewPlan {
  const { channels, mean, std, evalSize } = data;
  // Images as small as these are taken whole: enlarging and cropping them would cut content off.
  const resize = evalSize <= 64 ? "exact" : undefined;
  return evalViews({ size: evalSize, channels, normalization: { mean, std }, ...(resize && { resize }) });
}

/** Both splits of the data; null where there is no test split. */
async function openSplits({ data }: Pick<Recipe, "data">): Promise<{ train: Dataset; test: Dataset } | null> {
  if (!data.test) return null;
  const train = await openDataset(data.train, data.trainSplit ? { split: data.trainSplit } : {});
  const test = await openDataset(data.test, data.testSplit ? { split: data.testSplit } : {});
  return { train, test };
}

const unlabelled = ({ train, test }: { train: Dataset; test: Dataset }) =>
  [train, test].filter(({ classes }) => !classes).map(({ name }) => name);

/** The labelled splits to compare: the training split as the bank, the test split as queries. Null where there are none. */
export async function knnSplits(recipe: Pick<Recipe, "data">): Promise<{ train: Dataset; test: Dataset } | null> {
  const splits = await openSplits(recipe);
  return splits && unlabelled(splits).length === 0 ? splits : null;
}

/** The evaluator that a recipe asks for, or null when it asks for none. Data without labels have none either, which `warn` is told. */
export async function createOnlineKnn(recipe: Recipe, warn: (text: string) => void): Promise<KnnEvaluator | null> {
  const { everyEpochs, k, bank, queries, temperature } = recipe.knn;
  const splits = everyEpochs > 0 ? await openSplits(recipe) : null;
  if (!splits) return null;
  const without = [...new Set(unlabelled(splits))];
  if (without.length > 0) {
    const have = without.length > 1 ? "have" : "has";
    warn(`knn.everyEpochs is ${everyEpochs}, but ${without.join(" and ")} ${have} no labels; there will be no k-NN in this run`);
    return null;
  }
  const { workers } = recipe.train;
  return new KnnEvaluator({
    ...splits,
    plan: evaluationPlan(recipe),
    k,
    temperature,
    ...(bank && { bankSize: bank }),
    ...(queries && { querySize: queries }),
    ...(workers !== undefined && { workers }),
  });
}

/** Top-1 in percent by number of neighbours. */
export async function runKnn(evaluator: KnnEvaluator, encoder: Encoder, recipe: Recipe): Promise<Record<string, number>> {
  const result: KnnEvaluation = await evaluator.run(readoutOf(encoder, recipe.knn.readout), { module: encoder });
  const [only] = Object.values(result.readouts);
  return Object.fromEntries(Object.entries(only!.top1).map(([k, share]) => [k, 100 * share]));
}

/** `61.20 % (k 10), 60.85 % (k 20)` */
export function describeScores(top1: Readonly<Record<string, number>>): string {
  return Object.entries(top1)
    .map(([k, value]) => `${value.toFixed(2)} % (k ${k})`)
    .join(", ");
}

/** The last k-NN scores in a log, and the best top-1 for `k`. */
export function scoresIn(lines: readonly MetricsLine[], k: number): { lastKnn?: Record<string, number>; bestKnn?: number } {
  const scores = lines.flatMap(({ kind, top1 }) => (kind === "knn" ? [top1 as Record<string, number>] : []));
  const lastKnn = scores.at(-1);
  const tops = scores.flatMap((top1) => top1[k] ?? []);
  return { ...(lastKnn && { lastKnn }), ...(tops.length > 0 && { bestKnn: Math.max(...tops) }) };
}
