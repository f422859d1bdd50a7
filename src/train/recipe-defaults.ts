// Defaults that follow from other sections: from the dataset its channels and normalisation, from the method's crops the image size,
// from the method's paper its model and optimiser, from the length of the run its warm-up.

import { isRecord } from "../config/index.js";
import { type Normalization, parseSpec } from "../data/index.js";
import { type BackboneName, methodNamed, type RecipeFacts } from "../methods/index.js";
import { swinSizes, vitSizes } from "../models/index.js";
import type { Channels, DataRecipe, ModelPart, ModelRecipe, OptimizerRecipe, Parts, Recipe } from "./recipe-types.js";

/** Per-channel mean and standard deviation of the training images, scaled to 0..1. */
const normalizations: Readonly<Record<string, Normalization>> = {
  "fashion-mnist": { mean: [0.286], std: [0.353] },
  cifar10: { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] },
  cifar100: { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] },
};
const imagenet: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Datasets that have a test split under the same spec. */
const split = new Set(Object.keys(normalizations));

/** What a dataset's images look like when nothing is said. */
function known(spec: string): { kind: string; channels: Channels; normalization: Normalization } {
  const { kind } = parseSpec(spec);
  const normalization = normalizations[kind] ?? imagenet;
  return { kind, channels: normalization.mean.length as Channels, normalization };
}

/** Grey values in three channels, or three channels' average in one. */
function spread(values: readonly number[], channels: Channels): number[] {
  if (values.length === channels) return [...values];
  if (channels === 3) return [values[0]!, values[0]!, values[0]!];
  return [Number((values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(4))];
}

/** A recipe as it was given, with its method's own defaults for the keys that it leaves out. */
export function withMethodDefaults(
  input: Readonly<Record<string, unknown>>,
  method: NonNullable<Parts["method"]>,
): Record<string, unknown> {
  const { name, ...options } = method;
  const defaults = methodNamed(name).defaults?.(options);
  if (!defaults) return { ...input };
  const backbone = (valueAt(input, ["model", "name"]) ?? "vit") as BackboneName;
  const optimizer = valueAt(input, ["optimizer", "name"]);
  const usual = defaults.optimizer?.name ?? "adamw";
  return {
    ...input,
    model: under(defaults.model?.[backbone], input.model),
    optimizer: under(optimizer === undefined || optimizer === usual ? defaults.optimizer : undefined, input.optimizer),
    train: under(defaults.train, input.train),
    knn: under(defaults.knn, input.knn),
  };
}

/** What was given, over defaults: key by key, to any depth. */
function under(defaults: unknown, given: unknown): unknown {
  if (given === undefined) return defaults;
  if (!isRecord(defaults) || !isRecord(given)) return given;
  const merged: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(given)) merged[key] = under(defaults[key], value);
  return merged;
}

/** All but the size of evaluations, which is the model's. */
export function fillData(data: NonNullable<Parts["data"]>): Omit<DataRecipe, "evalSize"> & { evalSize?: number | undefined } {
  const { kind, channels, normalization } = known(data.train);
  const trainSplit = data.trainSplit ?? parseSpec(data.train).options.split;
  const wanted = data.channels ?? channels;
  const test = data.test ?? (split.has(kind) ? data.train : undefined);
  const other = test !== undefined && (test === data.train || split.has(parseSpec(test).kind));
  const testSplit =
    data.testSplit ?? (test === undefined ? undefined : parseSpec(test).options.split) ?? (other ? "test" : undefined);
  return {
    ...data,
    ...(test !== undefined && { test }),
    ...(trainSplit !== undefined && { trainSplit }),
    ...(testSplit !== undefined && { testSplit }),
    channels: wanted,
    mean: data.mean ?? spread(normalization.mean, wanted),
    std: data.std ?? spread(normalization.std, wanted),
  };
}

/** Width, depth, heads and image size. */
export function fillModel(model: ModelPart, cropSize: number | undefined): ModelRecipe {
  if (model.name === "swin") {
    const { size, ...given } = model;
    const preset = swinSizes[size ?? "tiny"];
    const embedDim = given.embedDim ?? preset.embedDim;
    const depths = given.depths ?? [...preset.depths];
    const usual = given.embedDim === undefined && depths.length === preset.heads.length ? [...preset.heads] : undefined;
    const heads = given.heads ?? usual ?? depths.map((_, i) => Math.max(1, Math.round(embedDim / 32)) * 2 ** i);
    return { ...given, embedDim, depths, heads, imageSize: given.imageSize ?? cropSize ?? 224 };
  }
  const { size, ...given } = model;
  const preset = vitSizes[size ?? "small"];
  const width = given.width ?? preset.width;
  return {
    ...given,
    width,
    depth: given.depth ?? preset.depth,
    heads: given.heads ?? Math.max(1, Math.round(width / 64)),
    imageSize: given.imageSize ?? cropSize ?? 224,
  };
}

/** Pixels behind one cell of the final grid, per side. */
export function strideOf(model: ModelPart | ModelRecipe): number {
  return model.name === "swin" ? model.patchSize * 2 ** ((model.depths ?? swinSizes.tiny.depths).length - 1) : model.patchSize;
}

/** What the rest of a recipe may ask of its backbone. */
export function backboneFacts(model: ModelRecipe): Omit<RecipeFacts, "batchSize"> {
  const [height, width] = typeof model.imageSize === "number" ? [model.imageSize, model.imageSize] : model.imageSize;
  const stride = strideOf(model);
  const grid = [height / stride, width / stride] as const;
  if (model.name === "vit") return { name: "vit", grid, width: model.width, depth: model.depth, classToken: model.classToken };
  const depth = model.depths.length;
  return { name: "swin", grid, width: model.embedDim * 2 ** (depth - 1), depth, classToken: false };
}

/** The shorter side of the images that positions are made for. */
export function shorterSide({ imageSize }: Pick<ModelRecipe, "imageSize">): number {
  return typeof imageSize === "number" ? imageSize : Math.min(...imageSize);
}

export function fillOptimizer(optimizer: NonNullable<Parts["optimizer"]>, epochs: number): OptimizerRecipe {
  const { name, betas, eps, momentum, nesterov, trustCoefficient, ...given } = optimizer;
  const { lr, weightDecay } = {
    adamw: { lr: 5e-4, weightDecay: { from: 0.04, to: 0.4 } },
    sgd: { lr: 0.03, weightDecay: 1e-4 },
    lars: { lr: 0.3, weightDecay: 1e-6 },
  }[name];
  const common = {
    ...given,
    lr: given.lr ?? lr,
    weightDecay: given.weightDecay ?? weightDecay,
    warmupEpochs: given.warmupEpochs ?? Math.min(10, epochs / 10),
  };
  if (name === "adamw") return { name, ...common, betas: betas ?? [0.9, 0.999], eps: eps ?? 1e-8 };
  if (name === "sgd") return { name, ...common, momentum: momentum ?? 0.9, nesterov: nesterov ?? false };
  return { name, ...common, momentum: momentum ?? 0.9, trustCoefficient: trustCoefficient ?? 0.001 };
}

export function fillKnn(knn: NonNullable<Parts["knn"]>, classToken: boolean): Recipe["knn"] {
  return { ...knn, readout: knn.readout ?? (classToken ? "class" : "mean") };
}

/** A `crops` section (multi-crop.ts) somewhere in a method's options. */
export interface Crops {
  /** Keys that lead to it, from the method's options. */
  path: string[];
  values: CropValues;
}

export interface CropValues {
  globalSize: number;
  locals?: number;
  localSize?: number;
  grayscale?: number;
  jitter?: { p: number; saturation: number; hue: number };
}

/** A method that crops has its options under the key `crops`; one that wraps another has them inside that one's. */
export function findCrops(options: unknown, path: string[] = []): Crops | undefined {
  if (typeof options !== "object" || options === null) return undefined;
  for (const [key, value] of Object.entries(options)) {
    const here = [...path, key];
    if (key === "crops" && typeof value?.globalSize === "number") return { path: here, values: value as CropValues };
    const inside = findCrops(value, here);
    if (inside) return inside;
  }
  return undefined;
}

/** Colour operations that mean nothing on grey images, as keys below `crops`. */
export const colourKeys = [["grayscale"], ["jitter", "saturation"], ["jitter", "hue"]] as const;

/** The options with the colour operations of crops at 0, where they were not asked for: what a run on grey images really does. */
export function withoutColour(method: Parts["method"] & object, given: unknown): Recipe["method"] {
  const copy = structuredClone(method);
  const crops = findCrops(copy);
  if (!crops) return copy;
  for (const keys of colourKeys) {
    if (valueAt(given, [...crops.path, ...keys]) !== undefined) continue;
    const owner = valueAt(crops.values, keys.slice(0, -1)) as Record<string, unknown> | undefined;
    const last = keys.at(-1)!;
    if (owner && last in owner) owner[last] = 0;
  }
  return copy;
}

export function valueAt(value: unknown, keys: readonly string[]): unknown {
  let here = value;
  for (const key of keys) here = typeof here === "object" && here !== null ? (here as Record<string, unknown>)[key] : undefined;
  return here;
}
