// The sections of a recipe and their defaults. What a default depends on other sections for (channels by dataset, image size by the method's
// crops, warm-up by the length of the run) is filled in by recipe-defaults.ts. Where a default has a source it is named; defaults
// without one are ours.
import { z } from "zod";
import { isReadout, type Readout, readoutForms } from "../evaluate/index.js";

const positive = z.number().positive();
const count = z.int().positive();
const atLeast0 = z.number().min(0);
const split = z.enum(["train", "test"]);

/** What of an encoder's output is evaluated. */
export const readoutSchema = z.custom<Readout>((value) => typeof value === "string" && isReadout(value), readoutForms);

export const dataSchema = z.strictObject({
  /** What to train on: `fashion-mnist`, `cifar10:DIR`, `folder:DIR`, or a kind that was registered. Needed. */
  train: z.string().min(1),
  /** k-NN queries, as a spec too. Default: the test split of `train` for the named datasets, none for folders. */
  test: z.string().min(1).optional(),
  /** Default: what the spec says, else `train`; a folder without splits is taken whole. */
  trainSplit: split.optional(),
  /** Default `test` when `test` is the same dataset as `train`, else what the spec says. */
  testSplit: split.optional(),
  /** Train on so many images only, balanced over the classes. Default all. */
  subset: count.optional(),
  /** 1 for grey. Default 1 for fashion-mnist, else 3. */
  channels: z.literal([1, 3]).optional(),
  /** Mean and standard deviation of values scaled to 0..1, one a channel. Default: the dataset's where known, else ImageNet's. */
  mean: z.array(z.number()).optional(),
  std: z.array(positive).optional(),
  /** Pixels of a side in evaluations. Default `model.imageSize`. */
  evalSize: count.optional(),
});

/** All of `SwinConfig` but the channels, which are the data's. Defaults are those of src/models/swin.ts. */
export const swinSchema = z.strictObject({
  name: z.literal("swin"),
  /** A published size, for whichever of embedDim, depths and heads is not given. Default tiny. */
  size: z.enum(["tiny", "small", "base"]).optional(),
  /** Channels of the first stage; they double from stage to stage. */
  embedDim: count.optional(),
  /** Blocks of each stage. */
  depths: z.array(count).min(1).optional(),
  /** Heads of each stage. Default: the size's where it has as many stages, else embedDim / 32 in the first, doubling. */
  heads: z.array(count).min(1).optional(),
  /** Tokens of a window's side. */
  windowSize: count.default(7),
  /** Pixels a side, or [height, width], that windows are made for. Default: the method's global crops. */
  imageSize: z.union([count, z.tuple([count, count])]).optional(),
  patchSize: count.default(4),
  mlpRatio: positive.default(4),
  qkvBias: z.boolean().default(true),
  /** Largest drop-path probability. Default 0. */
  dropPath: z.number().min(0).lt(1).default(0),
});

/** All of `VitConfig` but the channels, which are the data's. Defaults are those of src/models/vit.ts. */
export const vitSchema = z
  .strictObject({
    name: z.literal("vit").default("vit"),
    /** A published size, for whichever of width, depth and heads is not given. Default small. */
    size: z.enum(["tiny", "small", "base", "large"]).optional(),
    width: count.optional(),
    depth: count.optional(),
    /** Default width / 64, at least 1. */
    heads: count.optional(),
    /** Pixels a side, or [height, width], that the positions are made for. Default: the method's global crops. */
    imageSize: z.union([count, z.tuple([count, count])]).optional(),
    patchSize: count.default(16),
    mlpRatio: positive.default(4),
    positions: z.enum(["learned", "sin-cos"]).default("learned"),
    sinCos: z
      .strictObject({
        order: z.enum(["row-column", "column-row"]).default("row-column"),
        temperature: positive.default(10000),
      })
      .optional(),
    /** How positions are resized for other image sizes. */
    interpolation: z.enum(["exact", "timm", "dino"]).default("exact"),
    classToken: z.boolean().default(true),
    qkvBias: z.boolean().default(true),
    keyBias: z.boolean().default(true),
    /** Start of layer scale. Default: no layer scale. */
    layerScale: positive.optional(),
    /** Largest drop-path probability. DINO trains with 0.1, MoCo v3 with 0. Default 0. */
    dropPath: z.number().min(0).lt(1).default(0),
    init: z.enum(["dino", "timm", "mae", "moco-v3", "cae"]).default("dino"),
  })
  .prefault({});

/** The model section by the backbone's name. */
export const modelSchemas = { vit: vitSchema, swin: swinSchema } as const;

/** The name only: the rest is checked by the method's own schema. */
export const methodSchema = z.looseObject({ name: z.string() });

/** Defaults are those of DINO's code for a ViT, unless said. */
export const optimizerSchema = z
  .strictObject({
    name: z.enum(["adamw", "sgd", "lars"]).default("adamw"),
    /** Default by name: adamw 5e-4 (DINO), sgd 0.03 (MoCo), lars 0.3 (MoCo v3). */
    lr: positive.optional(),
    /** `batch/256`: the peak is lr * batchSize * accumulate / 256 (Goyal et al., 2017). */
    lrScaling: z.enum(["none", "batch/256"]).default("batch/256"),
    /** Epochs of linear rise from 0; may be a fraction. Default: a tenth of the run, at most 10. */
    warmupEpochs: atLeast0.optional(),
    /** Where a cosine or linear schedule ends; not scaled by the batch. */
    finalLr: atLeast0.default(1e-6),
    lrSchedule: z.enum(["cosine", "linear", "constant"]).default("cosine"),
    /** A constant, or along a cosine from `from` to `to`. Default by name: adamw 0.04 to 0.4 (DINO), sgd 1e-4 (MoCo), lars 1e-6 (MoCo v3). */
    weightDecay: z.union([atLeast0, z.strictObject({ from: atLeast0, to: atLeast0 })]).optional(),
    /** adamw. Default [0.9, 0.999]. */
    betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).optional(),
    /** adamw. Default 1e-8. */
    eps: positive.optional(),
    /** sgd, lars. Default 0.9. */
    momentum: z.number().min(0).lt(1).optional(),
    /** sgd. Default false. */
    nesterov: z.boolean().optional(),
    /** lars. Default 0.001. */
    trustCoefficient: positive.optional(),
    /** Gradients: all by their common norm (`global`), each by its own (`per-tensor`, DINO's), or not at all. */
    clip: z
      .strictObject({
        kind: z.enum(["none", "global", "per-tensor"]).default("per-tensor"),
        maxNorm: positive.default(3),
      })
      .prefault({}),
    /** Which parameters decay. Default: the method's rule. */
    decayRule: z.enum(["all", "no-bias-norm"]).optional(),
  })
  .prefault({});

export const trainSchema = z
  .strictObject({
    /** DINO's default. */
    epochs: count.default(100),
    /** Images of one forward pass. Default 256, the batch that learning rates are stated for. */
    batchSize: count.default(256),
    /** Forward passes whose gradients make one step. */
    accumulate: count.default(1),
    /** Key of every random choice. */
    seed: z.int().min(0).default(0),
    /** `bfloat16` runs the forward pass under autocast; weights stay float32. */
    precision: z.enum(["float32", "bfloat16"]).default("float32"),
    /**
     * Do not keep what the blocks of encoder and decoders compute on their way; the backward pass computes each block again: larger models and
     * batches fit, at the price of one more forward pass of the blocks. Default false.
     */
    gradientCheckpointing: z.boolean().optional(),
    /** Threads that decode and augment. Default: half the cores, 1 to 4. */
    workers: z.int().min(0).optional(),
    /** Batches made ahead. */
    prefetch: count.default(2),
    /** Keep up to so many megabytes of decoded images in memory: for folders of small files, whose decoding costs more than their views. */
    cacheMegabytes: count.optional(),
    /**
     * Keep them in a file of this folder instead of in memory, for this run and later ones: more than fits into memory, and decoded once for
     * all runs on the same images. It needs `cacheMegabytes`, which bounds the file.
     */
    cacheFolder: z.string().min(1).optional(),
    /** Ends the run after so many steps, if its epochs have more; its schedules, warm-up included, shrink with it. Default: epochs decide. */
    maxSteps: count.optional(),
    /** Steps between two lines of metrics.jsonl. */
    logEvery: count.default(10),
    /** Threads of libtorch. Default: the usable cores, or TESSERA_THREADS, or OMP_NUM_THREADS. */
    threads: count.optional(),
  })
  .refine(({ cacheFolder, cacheMegabytes }) => cacheFolder === undefined || cacheMegabytes !== undefined, {
    path: ["cacheMegabytes"],
    error: "the most that train.cacheFolder may hold, in megabytes",
  })
  .prefault({});

export const checkpointSchema = z
  .strictObject({
    /** Steps between checkpoints. Default: only by time, and at the end. */
    everySteps: count.optional(),
    /** Minutes between checkpoints; 0 turns this off. */
    everyMinutes: atLeast0.default(10),
    /** How many of the newest to keep, besides the best by k-NN. */
    keep: count.default(2),
  })
  .prefault({});

export const knnSchema = z
  .strictObject({
    /** Epochs between k-NN evaluations; 0 for none. */
    everyEpochs: z.int().min(0).default(0),
    /** Numbers of neighbours; the first is the one that decides which checkpoint is best. Default [20], DINO's best. */
    k: z.array(count).min(1).default([20]),
    /** Use only so many images of the training set. Default all. */
    bank: count.optional(),
    /** Use only so many images of the test set. Default all. */
    queries: count.optional(),
    /** What of the encoder's output is compared. Default: the class token, or the mean of the patches where there is none. */
    readout: readoutSchema.optional(),
    /** Of the vote; DINO's. */
    temperature: positive.default(0.07),
  })
  .prefault({});

export const picturesSchema = z
  .strictObject({
    /** Epochs between pictures; 0 for only at the end. */
    everyEpochs: z.int().min(0).default(0),
    /** Images in a picture. */
    count: count.default(8),
  })
  .prefault({});

/** Every section by its name. */
export const recipeSections = {
  /** What the run is called; names its folder. Default: the recipe's file. */
  name: z
    .string()
    .regex(/^[\w.-]+$/, "letters, digits, dots, hyphens and underscores")
    .optional(),
  data: dataSchema,
  /** By its name: modelSchemas has the others. */
  model: vitSchema,
  method: methodSchema,
  optimizer: optimizerSchema,
  train: trainSchema,
  checkpoint: checkpointSchema,
  knn: knnSchema,
  pictures: picturesSchema,
} as const;

export const recipeSchema = z.strictObject(recipeSections);

/** Other words for keys, so that a typo of them is understood too. */
export const aliases: Readonly<Record<string, string>> = {
  learningRate: "lr",
  baseLr: "lr",
  learningRateScaling: "lrScaling",
  learningRateSchedule: "lrSchedule",
  schedule: "lrSchedule",
  scheduler: "lrSchedule",
  minLr: "finalLr",
  warmup: "warmupEpochs",
  wd: "weightDecay",
  decay: "weightDecay",
  bs: "batchSize",
  batch: "batchSize",
  accumulation: "accumulate",
  gradientAccumulation: "accumulate",
  gradCheckpointing: "gradientCheckpointing",
  activationCheckpointing: "gradientCheckpointing",
  checkpointing: "gradientCheckpointing",
  dtype: "precision",
  numWorkers: "workers",
  steps: "maxSteps",
  dataset: "train",
  val: "test",
  embedDim: "width",
  dim: "width",
  layers: "depth",
  numHeads: "heads",
  optim: "optimizer",
  training: "train",
  checkpoints: "checkpoint",
  clipGrad: "clip",
  dropPathRate: "dropPath",
  gradClip: "clip",
};
