// Protocols of segmentation: every number of a published one with its source, and ours for small images. Settings are a schema's defaults (ours),
// a preset over them, and what is asked for over that.
import { z } from "zod";
import { resolveSettings } from "../../config/index.js";
import type { SavedTest } from "./infer.js";

const share = z.number().min(0).max(1);
const side = z.int().positive();

const fit = z.strictObject({
  /** Pixels of the shorter side at most. */
  short: side.default(224),
  /** Pixels of the longer side at most; null for any. */
  long: side.nullable().default(null),
});

/** What decides a segmentation beside the encoder and the images. The defaults are the preset `small`. */
export const segmentSettings = z.strictObject({
  /** Optimiser steps. */
  iterations: z.int().positive().default(1000),
  /** Images a step. */
  batchSize: z.int().positive().default(8),
  /** Learning rate, whatever the batch. */
  lr: z.number().positive().default(5e-4),
  /** At the end. */
  minLr: z.number().min(0).default(0),
  /** Of the fall from lr to minLr, (1 - t / iterations) ^ power; 1 is a straight line. */
  power: z.number().positive().default(1),
  /** Steps of rising learning rate; the fall goes on meanwhile, as mmcv has it. */
  warmup: z.int().min(0).default(50),
  /** Share of the learning rate that the warm-up begins with. */
  warmupRatio: share.default(1e-6),
  /** Factor on the learning rate from each block to the one below it; 1 for none. */
  layerDecay: z.number().positive().max(1).default(0.75),
  /** AdamW's; not of biases, norms, tokens, positions and their biases. */
  weightDecay: z.number().min(0).default(0.05),
  betas: z.tuple([share, share]).default([0.9, 0.999]),
  /** Largest global norm of the gradients; null for no limit. */
  clip: z.number().positive().nullable().default(null),
  /** Probability to drop a residual branch of the last block; falls linearly to 0 in the first. */
  dropPath: share.default(0.1),
  /** Learned biases by relative position in a ViT, from zero: as the weights have it, none, a table in each `block`, or one `shared`. */
  relPosBias: z.enum(["as-is", "none", "block", "shared"]).default("as-is"),
  /** The encoder is not trained. */
  frozen: z.boolean().default(false),
  head: z
    .strictObject({
      /** `linear` and `fcn` see the patch tokens after the final norm, `upernet` a feature pyramid. */
      kind: z.enum(["linear", "fcn", "upernet"]).default("upernet"),
      /** Width of the head's convolutions; "width" is that of the encoder. */
      channels: z.union([z.int().positive(), z.literal("width")]).default(128),
      /** Dropout of channels before the classes. */
      dropout: z.number().min(0).lt(1).default(0.1),
      /** Convolutions of the FCN. */
      convs: z.int().min(0).default(2),
      /** How many of the last blocks' tokens the linear head and the FCN see side by side. */
      lastBlocks: z.int().positive().default(1),
      /** The four levels of the encoder that UPerNet's pyramid takes; null for the blocks after a third, a half, two thirds and all of a ViT, and a Swin's stages. */
      levels: z.tuple([z.int(), z.int(), z.int(), z.int()]).nullable().default(null),
      /** Width of UPerNet's auxiliary head; 0 for none. */
      auxiliaryChannels: z.int().min(0).default(64),
      /** Weight of its loss. */
      auxiliaryWeight: z.number().min(0).default(0.4),
    })
    .prefault({}),
  /** Which pixels the mean of the loss is over: those that have a class, or all, the others with a loss of 0. */
  lossMean: z.enum(["labelled", "all"]).default("labelled"),
  /** Side of the training crops in pixels, or [height, width]. */
  crop: z.union([side, z.tuple([side, side])]).default(224),
  /** The size of the images, before the random ratio. */
  fit: fit.prefault({}),
  /** Range of the random ratio to that size. */
  ratio: z.tuple([z.number().positive(), z.number().positive()]).default([0.5, 2]),
  /** A crop in which one class covers more than this share is drawn again, up to ten times; 1 for no such rule. */
  catMaxRatio: z.number().positive().max(1).default(0.75),
  /** Probability of a flip. */
  flip: share.default(0.5),
  /** Photometric distortion. */
  distort: z.boolean().default(true),
  test: z
    .strictObject({
      /** `slide`: windows of the crop's size, scores averaged where they overlap; `whole`: the image at once. */
      mode: z.enum(["slide", "whole"]).default("slide"),
      /** Pixels from window to window; null for two thirds of the window. */
      stride: side.nullable().default(null),
      /** The size of the images; null for that of training. */
      fit: fit.nullable().default(null),
      /** Also the mirrored image, the classes' probabilities averaged. */
      flip: z.boolean().default(false),
      /** Factors on the size, the probabilities averaged. */
      scales: z.array(z.number().positive()).min(1).default([1]),
    })
    .prefault({}),
  /** Steps between evaluations, of which there is a whole number; 0 for the end alone. */
  evaluateEvery: z.int().min(0).default(0),
  /** Test images that are drawn beside their truth and the prediction. */
  pictures: z.int().min(0).default(8),
  /** Of first weights, order and augmentation. */
  seed: z.int().min(0).default(0),
});

export type SegmentSettings = z.output<typeof segmentSettings>;
export type SegmentInput = z.input<typeof segmentSettings>;

/** What the protocols for ADE20K have in common (mmsegmentation's ade20k dataset and its 160k schedule). */
const ade20k = {
  iterations: 160_000,
  batchSize: 16, // 2 images on each of 8 GPUs
  minLr: 0,
  power: 1,
  warmup: 1500,
  warmupRatio: 1e-6,
  betas: [0.9, 0.999],
  crop: 512,
  fit: { short: 512, long: 2048 },
  ratio: [0.5, 2],
  catMaxRatio: 0.75,
  flip: 0.5,
  distort: true,
  lossMean: "all", // mmsegmentation before its avg_non_ignore
  test: { mode: "slide", stride: 341 },
} satisfies SegmentInput;

/** DINOv2's linear protocol (its segmentation configs): the encoder frozen, batch norm and a 1x1 convolution. */
const linear = {
  ...ade20k,
  iterations: 40_000,
  lr: 1e-3,
  weightDecay: 1e-4,
  layerDecay: 1,
  dropPath: 0,
  frozen: true,
  head: { kind: "linear", dropout: 0, lastBlocks: 1, auxiliaryChannels: 0 },
} satisfies SegmentInput;

/** Ours: what `upernet` has, with a plain FCN on the patch tokens. */
const fcn = {
  ...ade20k,
  lr: 6e-5,
  weightDecay: 0.01,
  layerDecay: 1,
  dropPath: 0.1,
  head: { kind: "fcn", channels: 256, convs: 2, dropout: 0.1, auxiliaryChannels: 0 },
} satisfies SegmentInput;

/** Swin's UPerNet (arXiv 2103.14030, A2.3, and its code). */
const upernet = {
  ...ade20k,
  lr: 6e-5,
  weightDecay: 0.01,
  layerDecay: 1,
  dropPath: 0.3,
  head: { kind: "upernet", channels: 512, dropout: 0.1, auxiliaryChannels: 256, auxiliaryWeight: 0.4 },
  test: { mode: "whole" }, // upernet_swin.py: test_cfg
} satisfies SegmentInput;

/** CAE's UPerNet over ViT-B (arXiv 2202.03026 and its code). */
const cae = {
  ...ade20k,
  lr: 1e-4, // of encoders trained for 1600 epochs; 2e-4 after 800, 3e-4 after 300
  weightDecay: 0.05,
  layerDecay: 0.65,
  dropPath: 0.1,
  relPosBias: "block",
  head: { kind: "upernet", channels: "width", dropout: 0.1, auxiliaryChannels: 256, auxiliaryWeight: 0.4 },
} satisfies SegmentInput;

export const segmentPresets = {
  /** Ours: the schema's defaults. Small images, an hour or less on a CPU. */
  small: {},
  linear,
  fcn,
  upernet,
  cae,
} as const satisfies Record<string, SegmentInput>;

export type SegmentPreset = keyof typeof segmentPresets;
export const segmentPresetNames = Object.keys(segmentPresets) as SegmentPreset[];

/**
 * Settings by a preset, with changes over it: as an object, and as `path=value`.
 *
 * @throws ConfigError with everything that does not fit
 */
export function segmentPlan({
  preset = "small",
  changes = {},
  sets = [],
}: {
  preset?: SegmentPreset;
  changes?: SegmentInput;
  sets?: readonly string[];
} = {}): SegmentSettings {
  const given = { ...segmentPresets[preset], ...changes };
  return resolveSettings(segmentSettings, "the settings of segmentation", { preset: given, sets });
}

const testedAgain = z.strictObject({ test: segmentSettings.shape.test, pictures: segmentSettings.shape.pictures });

/**
 * How a trained segmenter is measured: as it was saved, with changes of `test` and `pictures` over it.
 *
 * @throws ConfigError with everything that does not fit
 */
export function savedTest(saved: SavedTest, sets: readonly string[] = []): { test: SavedTest; pictures: number } {
  const { mode, stride, fit, flip, scales } = saved;
  const preset = { test: { mode, stride, fit, flip, scales: [...scales] } };
  const { test, pictures } = resolveSettings(testedAgain, "the settings of a measurement", { preset, sets });
  return { test: { ...test, window: saved.window, stride: test.stride ?? saved.stride, fit: test.fit ?? fit }, pictures };
}
