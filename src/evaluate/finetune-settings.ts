// Protocols of fine-tuning: every number of a published one with its source, and ours for small images. Settings are a schema's defaults (ours),
// a preset over them, and what is asked for over that.
import { z } from "zod";
import { resolveSettings } from "../config/index.js";
import { parseRandAugment } from "../data/index.js";

const share = z.number().min(0).max(1);
const range = z.tuple([z.number().positive(), z.number().positive()]);

function isRandAugment(text: string, context: z.RefinementCtx): void {
  try {
    parseRandAugment(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
  }
}

/** What decides a fine-tuning beside the encoder and the images. The defaults are the preset `small`. */
export const finetuneSettings = z.strictObject({
  epochs: z.int().positive().default(30),
  /** Images a step. */
  batchSize: z.int().positive().default(64),
  /** Images that go through the model at once, their gradients added up: less memory for a large batch. Null for the whole batch. */
  microBatch: z.int().positive().nullable().default(null),
  /** Learning rate of a batch of 256; that of the run is baseLr x batchSize / 256. */
  baseLr: z.number().positive().default(4e-3),
  /** At the end of the cosine. */
  minLr: z.number().min(0).default(1e-6),
  /** Of linearly rising learning rate. */
  warmupEpochs: z.number().min(0).default(2),
  /** Learning rate at the first step. */
  warmupLr: z.number().min(0).default(0),
  /** When the learning rate changes. */
  per: z.enum(["step", "epoch"]).default("step"),
  /** Factor on the learning rate from each block to the one below it; 1 for none. */
  layerDecay: z.number().positive().max(1).default(0.75),
  /** AdamW's; not of biases, norms, tokens and positions. */
  weightDecay: z.number().min(0).default(0.05),
  betas: z.tuple([share, share]).default([0.9, 0.999]),
  /** Largest global norm of the gradients; null for no limit. */
  clip: z.number().positive().nullable().default(null),
  /** Probability to drop a residual branch of the last block; falls linearly to 0 in the first. */
  dropPath: share.default(0.05),
  /**
   * What is classified: the `class` token after the final norm, or the `mean` of the patches, normalised after it is taken. Swin always has the mean,
   * of what is normalised.
   */
  pool: z.enum(["class", "mean"]).default("mean"),
  /** The norm of the mean: a `new` one, or the `pre-trained` final norm. */
  poolNorm: z.enum(["new", "pre-trained"]).default("pre-trained"),
  /** Standard deviation of the classifier's first weights, a truncated normal. */
  headStd: z.number().min(0).default(2e-5),
  /** Learned biases by relative position in a ViT, from zero: as the weights have it, none, a table in each `block`, or one `shared`. */
  relPosBias: z.enum(["as-is", "none", "block", "shared"]).default("as-is"),
  labelSmoothing: z.number().min(0).lt(1).default(0.1),
  /** Alpha of mixup; 0 for none. */
  mixup: z.number().min(0).default(0),
  /** Alpha of CutMix; 0 for none. */
  cutmix: z.number().min(0).default(0),
  /** Probability that a batch is mixed, where either is on. */
  mixProbability: share.default(1),
  /** Probability of CutMix rather than mixup, where both are on. */
  switchProbability: share.default(0.5),
  /** timm's text, such as rand-m9-mstd0.5-inc1; null for none. */
  randAugment: z.string().superRefine(isRandAugment).nullable().default(null),
  /** Probability that a box of an image becomes noise. */
  erase: share.default(0),
  /** Share of the image's area and ratio of its sides that are cropped. */
  crop: z
    .strictObject({
      scale: range.default([0.8, 1]),
      ratio: range.default([3 / 4, 4 / 3]),
      interpolation: z.enum(["bilinear", "bicubic"]).default("bicubic"),
    })
    .prefault({}),
  /** Probability of a flip. */
  flip: share.default(0.5),
  /** Momentum of averaged weights, which are judged beside the last ones; null for none. */
  ema: share.nullable().default(null),
  /** What is not trained beside the classifier. */
  freeze: z.enum(["none", "patch-embed"]).default("none"),
  /** Only so many of the last blocks are trained, and what comes after them (MAE's partial fine-tuning); null for all. */
  lastBlocks: z.int().min(0).nullable().default(null),
  /** Epochs between evaluations; 0 for the end alone. */
  evaluateEvery: z.int().min(0).default(0),
  /** Of first weights, order, augmentation and mixing. */
  seed: z.int().min(0).default(0),
});

export type FinetuneSettings = z.output<typeof finetuneSettings>;
export type FinetuneInput = z.input<typeof finetuneSettings>;

/** What MAE, CAE and DeiT have in common: DeiT's augmentation (timm's create_transform), and AdamW with a decay of 0.05. */
const imagenet = {
  warmupEpochs: 5,
  weightDecay: 0.05,
  betas: [0.9, 0.999],
  labelSmoothing: 0.1,
  mixup: 0.8,
  cutmix: 1,
  switchProbability: 0.5,
  randAugment: "rand-m9-mstd0.5-inc1",
  erase: 0.25,
  crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3], interpolation: "bicubic" },
  flip: 0.5,
} satisfies FinetuneInput;

/** ViT-B/16. */
const mae = {
  ...imagenet,
  epochs: 100, // FINETUNE.md, ViT-Base
  batchSize: 1024, // FINETUNE.md: 32 images on each of 32 GPUs
  baseLr: 5e-4, // FINETUNE.md: --blr 5e-4
  minLr: 1e-6, // main_finetune.py: --min_lr
  warmupLr: 0, // util/lr_sched.py
  per: "step", // util/lr_sched.py: fractions of epochs
  layerDecay: 0.65, // FINETUNE.md: --layer_decay 0.65
  dropPath: 0.1, // FINETUNE.md: --drop_path 0.1
  pool: "mean", // main_finetune.py: --global_pool is the default
  poolNorm: "new", // main_finetune.py: fc_norm is not in the checkpoint
  headStd: 2e-5, // main_finetune.py: trunc_normal_(head.weight, std=2e-5)
} satisfies FinetuneInput;

/** ViT-B/16. */
const cae = {
  ...imagenet,
  epochs: 100, // the fine-tuning script of ViT-B
  batchSize: 4096, // the script: 128 images on each of 32 GPUs
  baseLr: 5e-4, // the script has 8e-3, which does not scale with its batch of 4096
  minLr: 1e-6,
  warmupLr: 0,
  per: "step",
  layerDecay: 0.65, // the script
  dropPath: 0.1, // the script
  pool: "mean", // mean of the patches, then fc_norm
  poolNorm: "pre-trained", // the checkpoint's norm becomes fc_norm
  headStd: 2e-5, // std 0.02 times --init_scale 0.001
  relPosBias: "block", // on where no flag turns it off
} satisfies FinetuneInput;

/** ViT-S/16 and ViT-B/16: what DeiT trains from scratch by, and DINO and MoCo v3 fine-tune by. */
const deit = {
  ...imagenet,
  epochs: 300, // main.py: --epochs
  batchSize: 1024, // README: 256 images on each of 4 GPUs
  baseLr: 2.5e-4, // main.py: 5e-4 x batch / 512
  minLr: 1e-5, // main.py: --min-lr
  warmupLr: 1e-6, // main.py: --warmup-lr
  per: "epoch", // timm's CosineLRScheduler, stepped after each epoch
  layerDecay: 1, // none
  dropPath: 0.1, // main.py: --drop-path
  pool: "class",
  headStd: 0.02, // timm's first weights
  ema: 0.99996, // main.py: --model-ema-decay
} satisfies FinetuneInput;

/** ViT-S/16 and ViT-B/16: DeiT's training, for 150 epochs (arXiv 2104.02057 and the README, of ViT-B). */
const mocoV3 = { ...deit, epochs: 150 } satisfies FinetuneInput;

export const finetunePresets = {
  /** Ours: the schema's defaults. Images of CIFAR's size, a few epochs, mild augmentation. */
  small: {},
  mae,
  cae,
  deit,
  "moco-v3": mocoV3,
} as const satisfies Record<string, FinetuneInput>;

export type FinetunePreset = keyof typeof finetunePresets;
export const finetunePresetNames = Object.keys(finetunePresets) as FinetunePreset[];

/**
 * Settings by a preset, with changes over it: as an object, and as `path=value`.
 *
 * @throws ConfigError with everything that does not fit
 */
export function finetunePlan({
  preset = "small",
  changes = {},
  sets = [],
}: {
  preset?: FinetunePreset;
  changes?: FinetuneInput;
  sets?: readonly string[];
} = {}): FinetuneSettings {
  const given = { ...finetunePresets[preset], ...changes };
  return resolveSettings(finetuneSettings, "the protocol of fine-tuning", { preset: given, sets });
}
