// Protocols of detection: every number of a published one with its source, and ours for few images. Settings are a schema's defaults (ours), a preset
// over them, and what is asked for over that.
import { z } from "zod";
import { resolveSettings } from "../../config/index.js";

const share = z.number().min(0).max(1);
const side = z.int().positive();
const pair = z.strictObject({ training: z.int().positive(), testing: z.int().positive() });

/** What decides a detector and its training beside the encoder and the images. The defaults are the preset `small`. */
export const detectionSettings = z.strictObject({
  epochs: z.int().positive().default(36),
  /** Images a step. */
  batchSize: z.int().positive().default(4),
  lr: z.number().positive().default(2e-4),
  /** How the learning rate falls: by `gamma` after the epochs in `milestones`, or along a cosine to `minLr`. */
  schedule: z.enum(["step", "cosine"]).default("cosine"),
  milestones: z.array(z.int().positive()).default([27, 33]),
  gamma: share.default(0.1),
  minLr: z.number().min(0).default(1e-6),
  /** Steps of linearly rising learning rate, from `warmupFactor` times the full one. */
  warmupSteps: z.int().min(0).default(50),
  warmupFactor: share.default(0.001),
  /** Factor on the learning rate from each block to the one below it; 1 for none. */
  layerDecay: z.number().positive().max(1).default(0.75),
  /** AdamW's; not of biases, norms, tokens and positions. */
  weightDecay: z.number().min(0).default(0.05),
  betas: z.tuple([share, share]).default([0.9, 0.999]),
  /** Largest global norm of the gradients; null for no limit. */
  clip: z.number().positive().nullable().default(1),
  /** Probability to drop a residual branch of the last block; falls linearly to 0 in the first. */
  dropPath: share.default(0.1),
  /** Learned biases by relative position in a ViT: as the weights have it, none, a table in each `block`, or one `shared`. */
  relPosBias: z.enum(["as-is", "none", "block", "shared"]).default("as-is"),
  /** A ViT's attention inside windows of so many patches a side, for large images; 0 for none. */
  windowSize: z.int().min(0).default(0),
  /** The blocks that see the whole image nevertheless; null for the last of each quarter (ViTDet). */
  globalBlocks: z.array(z.int()).nullable().default(null),
  /** The images a training sees: the shorter side is one of these by chance, less where the longer one would exceed `longest`. */
  shorter: z.array(side).min(1).default([320]),
  longest: side.default(544),
  /** Large-scale jitter instead: the range of scales, and the side of the square that is cut out; null for none. */
  jitter: z
    .strictObject({ range: z.tuple([z.number().positive(), z.number().positive()]).default([0.1, 2]), size: side.default(1024) })
    .nullable()
    .default(null),
  /** The shorter side when judged (and `longest`). */
  testShorter: side.default(320),
  /** Probability of a flip. */
  flip: share.default(0.5),
  /** Leave images without any object out of the training. */
  onlyWithObjects: z.boolean().default(true),
  /** Instance segmentation beside boxes. */
  masks: z.boolean().default(true),
  /** Four levels of the encoder, from shallow to deep; null for evenly spaced blocks of a ViT and the stages of a Swin. */
  levels: z.array(z.int()).length(4).nullable().default(null),
  /** Channels of the feature pyramid network. */
  channels: z.int().positive().default(128),
  /** Sides of the anchors in cells of each level. */
  anchorCells: z.array(z.number().positive()).min(1).default([8]),
  anchorRatios: z.array(z.number().positive()).min(1).default([0.5, 1, 2]),
  /** Proposals a level before suppression, and an image after it. */
  proposalsBefore: pair.default({ training: 1000, testing: 1000 }),
  proposalsAfter: pair.default({ training: 500, testing: 300 }),
  /** Anchors of an image that the losses are taken of. */
  anchorSamples: z.int().positive().default(256),
  boxHead: z.enum(["2fc", "4conv1fc"]).default("2fc"),
  boxWidth: z.int().positive().default(512),
  classAgnosticBoxes: z.boolean().default(false),
  /** Proposals of an image that the losses are taken of, and the share of objects' among them. */
  boxSamples: z.int().positive().default(128),
  boxFraction: share.default(0.25),
  boxLoss: z.enum(["smooth-l1", "l1"]).default("smooth-l1"),
  /** Channels of the mask head's convolutions. */
  maskLayers: z.array(z.int().positive()).min(1).default([128, 128]),
  classAgnosticMasks: z.boolean().default(false),
  /** Cells' centres at whole numbers when regions are read. */
  aligned: z.boolean().default(true),
  /** Least score of a detection, largest overlap of two of a class, most of an image. */
  scoreThreshold: share.default(0.05),
  nmsThreshold: share.default(0.5),
  detections: z.int().positive().default(100),
  /** Epochs between evaluations; 0 for the end alone. */
  evaluateEvery: z.int().min(0).default(0),
  /** Pictures of so many images, truth and finds, after each evaluation. */
  pictures: z.int().min(0).default(4),
  /** Of first weights, order, augmentation and sampling. */
  seed: z.int().min(0).default(0),
});

export type DetectionSettings = z.output<typeof detectionSettings>;
export type DetectionInput = z.input<typeof detectionSettings>;

/** Mask R-CNN's own numbers as torchvision has them, on COCO's usual sizes. */
const usual = {
  channels: 256,
  boxHead: "2fc",
  boxWidth: 1024,
  maskLayers: [256, 256, 256, 256],
  proposalsBefore: { training: 2000, testing: 1000 },
  proposalsAfter: { training: 2000, testing: 1000 },
  anchorSamples: 256,
  boxSamples: 512,
  boxFraction: 0.25,
  longest: 1333,
  testShorter: 800,
  flip: 0.5,
} satisfies DetectionInput;

/** 12 epochs: what "1x" means (Detectron). */
const once = { epochs: 12, schedule: "step", gamma: 0.1, warmupSteps: 500, warmupFactor: 0.001 } satisfies DetectionInput;

/** DETR's sizes, without its crops. */
const scales = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800];

/**
 * ViT-B/16, Mask R-CNN 1x (CAE's code for detection, on Swin's). Theirs has SyncBN in the box head, GIoU for boxes, and crops among its sizes; ours has
 * none of the three.
 */
const cae = {
  ...usual,
  ...once,
  batchSize: 32,
  lr: 3e-4, // ViT-L: 2e-4
  milestones: [9, 11],
  weightDecay: 0.05,
  layerDecay: 0.75, // ViT-L: 0.85
  dropPath: 0.2,
  clip: null,
  shorter: scales,
  boxHead: "4conv1fc",
  relPosBias: "none",
} satisfies DetectionInput;

/** Swin-T, Mask R-CNN 1x (its code for detection). */
const swin = {
  ...usual,
  ...once,
  batchSize: 16,
  lr: 1e-4,
  milestones: [8, 11],
  weightDecay: 0.05,
  layerDecay: 1,
  dropPath: 0.1,
  clip: null,
  shorter: scales,
} satisfies DetectionInput;

/** ViT-B/16 (ViTDet, arXiv 2203.16527, section 4): large-scale jitter at 1024, 100 epochs of batches of 64. Its own pyramid is simpler than ours. */
const vitdet = {
  ...usual,
  epochs: 100,
  batchSize: 64,
  lr: 1e-4,
  schedule: "step",
  milestones: [89, 96],
  gamma: 0.1,
  warmupSteps: 250,
  warmupFactor: 0.001,
  weightDecay: 0.1,
  layerDecay: 0.7,
  dropPath: 0.1,
  clip: null,
  windowSize: 14,
  jitter: { range: [0.1, 2], size: 1024 },
  longest: 1024,
  testShorter: 1024,
  boxHead: "4conv1fc",
} satisfies DetectionInput;

export const detectionPresets = {
  /** Ours: the schema's defaults. A few hundred images, small sizes, a CPU. */
  small: {},
  cae,
  swin,
  vitdet,
} as const satisfies Record<string, DetectionInput>;

export type DetectionPreset = keyof typeof detectionPresets;
export const detectionPresetNames = Object.keys(detectionPresets) as DetectionPreset[];

/**
 * Settings by a preset, with changes over it: as an object, and as `path=value`.
 *
 * @throws ConfigError with everything that does not fit
 */
export function detectionSettingsOf({
  preset = "small",
  changes = {},
  sets = [],
}: {
  preset?: DetectionPreset;
  changes?: DetectionInput;
  sets?: readonly string[];
} = {}): DetectionSettings {
  const given = { ...detectionPresets[preset], ...changes };
  return resolveSettings(detectionSettings, "the settings of detection", { preset: given, sets });
}
