// From a recipe to the things that train: data, loader, method, optimiser, schedules.
import {
  cached,
  cachedInFile,
  createLoader,
  type Dataset,
  type Loader,
  type Position as LoaderPosition,
  openDataset,
} from "../data/index.js";
import { RunError } from "../fit/index.js";
import { type Method, methodNamed } from "../methods/index.js";
import { type BackboneConfig, createBackbone, type Encoder, setGradientCheckpointing } from "../models/index.js";
import { AdamW, decayGroups, LARS, type Optimizer, type Schedule, SGD, schedule } from "../optim/index.js";
import { manualSeed } from "../torch/index.js";
import { peakLearningRate, type Recipe } from "./recipe.js";

export interface Session {
  recipe: Recipe;
  dataset: Dataset;
  method: Method;
  optimizer: Optimizer;
  schedules: { lr: Schedule; weightDecay: Schedule };
  stepsPerEpoch: number;
  totalSteps: number;
  /** The learning rate that the schedule rises to. */
  peakLr: number;
}

/** The method of a recipe with freshly initialised weights: the same seed gives the same weights. */
export function createMethod(recipe: Recipe): Method {
  manualSeed(recipe.train.seed);
  const { name, ...options } = recipe.method;
  const method = methodNamed(name).create(options, {
    encoder: ({ dropPath = true } = {}) => createEncoder(recipe, dropPath ? {} : { dropPath: 0 }),
    data: recipe.data,
    seed: recipe.train.seed,
    batchSize: recipe.train.batchSize,
  });
  if (recipe.train.gradientCheckpointing) setGradientCheckpointing(method.trainable);
  return method;
}

/**
 * The encoder that a recipe's method would evaluate, with freshly initialised weights.
 *
 * @throws RunError where the method trains none
 */
export function freshEncoder(recipe: Recipe): Encoder {
  const { encoder, name } = createMethod(recipe);
  if (encoder) return encoder;
  throw new RunError(`the method "${name}" trains no encoder to evaluate; choose another one`);
}

/** The encoder of a recipe with freshly initialised weights. */
export function createEncoder(recipe: Recipe, changes: { dropPath?: number } = {}): Encoder {
  return createBackbone({ ...backboneConfigOf(recipe), ...changes });
}

/** The architecture of a recipe's encoder. */
export function backboneConfigOf({ model, data: { channels } }: Recipe): BackboneConfig {
  if (model.name === "swin") {
    const { size: _, ...config } = model;
    return { ...config, channels };
  }
  const { name: _, size: __, ...config } = model;
  return { ...config, channels };
}

/** A recipe's optimiser over what its method trains. */
export function createOptimizer(recipe: Recipe, method: Method, lr: number): Optimizer {
  const { name, weightDecay, betas, eps, momentum, nesterov, trustCoefficient, decayRule } = recipe.optimizer;
  const groups = decayGroups(method.trainable, decayRule ?? method.decayRule);
  const decay = typeof weightDecay === "number" ? weightDecay : weightDecay.from;
  switch (name) {
    case "adamw":
      return new AdamW(groups, { lr, weightDecay: decay, ...(betas && { betas }), ...(eps && { eps }) });
    case "sgd":
      return new SGD(groups, {
        lr,
        weightDecay: decay,
        ...(momentum !== undefined && { momentum }),
        ...(nesterov && { nesterov }),
      });
    case "lars":
      return new LARS(groups, {
        lr,
        weightDecay: decay,
        ...(momentum !== undefined && { momentum }),
        ...(trustCoefficient && { trustCoefficient }),
      });
  }
}

/** The images that a recipe trains on. */
export async function openTraining({ data }: Pick<Recipe, "data">): Promise<Dataset> {
  return await openDataset(data.train, {
    ...(data.trainSplit && { split: data.trainSplit }),
    ...(data.subset && { subset: data.subset }),
  });
}

/** How many steps a run over a dataset has. @throws RunError where the images do not fill a single one */
export function stepsOf({ train }: Pick<Recipe, "train">, dataset: Dataset): Pick<Session, "stepsPerEpoch" | "totalSteps"> {
  const batches = Math.floor(dataset.length / train.batchSize);
  const stepsPerEpoch = Math.floor(batches / train.accumulate);
  if (stepsPerEpoch === 0) {
    throw new RunError(
      `${dataset.name} has ${dataset.length} images, fewer than one step of ${train.batchSize} x ${train.accumulate}: use a smaller train.batchSize`,
    );
  }
  return { stepsPerEpoch, totalSteps: Math.min(train.epochs * stepsPerEpoch, train.maxSteps ?? Number.POSITIVE_INFINITY) };
}

/** Builds everything but the loader, which needs to know where to start. */
export async function createSession(recipe: Recipe): Promise<Session> {
  const { train, optimizer: rates } = recipe;
  const dataset = await openTraining(recipe);
  const { stepsPerEpoch, totalSteps } = stepsOf(recipe, dataset);
  const method = createMethod(recipe);
  const peakLr = peakLearningRate(recipe);
  const optimizer = createOptimizer(recipe, method, peakLr);
  const run = { steps: totalSteps, stepsPerEpoch };
  // A run that maxSteps shortens has its schedules shortened as a whole, so the warm-up keeps its share.
  const warmupSteps = Math.round((rates.warmupEpochs / train.epochs) * totalSteps);
  const warmup = warmupSteps > 0 ? { warmup: { steps: warmupSteps } } : {};
  const { weightDecay, lrSchedule } = rates;
  return {
    recipe,
    dataset,
    method,
    optimizer,
    schedules: {
      lr: schedule(
        lrSchedule === "constant"
          ? { kind: "constant", value: peakLr, ...warmup }
          : { kind: lrSchedule, from: peakLr, to: rates.finalLr, ...warmup },
        run,
      ),
      weightDecay: schedule(typeof weightDecay === "number" ? weightDecay : { kind: "cosine", ...weightDecay }, run),
    },
    stepsPerEpoch,
    totalSteps,
    peakLr,
  };
}

/** A dataset with the cache of decoded images that the recipe asks for, if any. */
function withCache(dataset: Dataset, { train: { cacheMegabytes, cacheFolder } }: Recipe): Dataset {
  if (cacheMegabytes === undefined) return dataset;
  const bytes = cacheMegabytes * 1e6;
  return cacheFolder === undefined ? cached(dataset, bytes) : cachedInFile(dataset, cacheFolder, bytes);
}

/** The training loader, prefetching from a position on. */
export function createTrainLoader({ recipe, dataset, method }: Session, startAt: LoaderPosition): Loader {
  const { batchSize, seed, workers, prefetch } = recipe.train;
  return createLoader({
    dataset: withCache(dataset, recipe),
    plan: method.views,
    batchSize,
    seed,
    startAt,
    shuffle: true,
    dropLast: true,
    ...(workers === undefined ? {} : { workers }),
    ...(prefetch === undefined ? {} : { prefetch }),
  });
}
