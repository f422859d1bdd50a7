// RandSAC (Hua et al., ICLR 2023): patches are grouped in segments, and the segments of an image are predicted one after another in a random
// order; patches of a segment are predicted at once.
//
//   rank(i)   place of patch i's segment in the order, 0 .. K - 1
//   encoder   a patch attends to patches of its own and earlier segments; the last segment is not seen at all
//   decoder   a patch to predict is its position only; it attends to patches to predict of its own and earlier segments, and to what the
//             encoder says of earlier segments; the first segment is not predicted
//   L = mean squared difference to the pixels of the predicted patches, each patch normalised      (section 5)
//
// Two forms that give the same. `dropped`: patches sorted by their segments, the last segment left out of the encoder, the first of the
// decoder, and one mask for all images; it needs segments of equal size. `fixed`: all patches in both, in place, with masks made of the
// ranks of each image.
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import type { Picture } from "../draw/index.js";
import { type Encoder, gatherTokens, SegmentDecoder, sinCosPositions } from "../models/index.js";
import { buffer, Module, type StateDict } from "../nn/index.js";
import { arange, atLeastFloat32, eye, mseLoss, noGrad, normalize, type Tensor, tidy, zeros } from "../torch/index.js";
import { defineMethod, type Method, type MethodContext, type MethodIssue, type Progress, type StepResult } from "./method.js";
import { patchTarget } from "./patch-target.js";
import { plainCropOptions, plainCropViews } from "./plain-crop.js";
import { randsacPictures } from "./randsac-pictures.js";
import { blobLevels, type Level, segmentRanks, shuffled, squareLevels } from "./randsac-segments.js";

const sides = z.array(z.int().positive());

/** Which options are the paper's and which are ours: docs/methods/randsac.md. */
export const randsacOptions = z
  .strictObject({
    crops: plainCropOptions,
    /**
     * - `square`: squares of `side` patches (1: every patch by itself); `partitions` are the sides of coarser squares.
     * - `blob`: the nearest of `count` Gaussians, drawn for each image; `partitions` are the numbers of coarser ones.
     */
    segments: z
      .discriminatedUnion("kind", [
        z.strictObject({ kind: z.literal("square"), side: z.int().positive().default(2), partitions: sides.default([]) }),
        z.strictObject({
          kind: z.literal("blob"),
          count: z.int().min(2).default(11),
          partitions: sides.default([]),
          /** Range of the Gaussians' standard deviations, in sides of the grid. */
          deviation: z.tuple([z.number().positive(), z.number().positive()]).default([0.1, 0.5]),
        }),
      ])
      .prefault({ kind: "square" }),
    /** A new random order for each image, or always from the top left to the bottom right (the paper's control). */
    order: z.enum(["random", "raster"]).default("random"),
    /** False is the paper's control: segments of the same sizes, their patches anywhere. */
    coherent: z.boolean().default(true),
    /** How the masks are made: see the head of this file. `auto` takes `dropped` where segments are of equal size, the cheaper one. */
    form: z.enum(["auto", "fixed", "dropped"]).default("auto"),
    /** The decoder; its width is the encoder's. */
    decoderDepth: z.int().positive().default(8),
    /** Default: width / 64, at least 1. */
    decoderHeads: z.int().positive().optional(),
    /** Let every decoder layer mix all encoder layers by learned weights. */
    skips: z.enum(["off", "learned"]).default("learned"),
    skipInit: z.enum(["last", "uniform", "normal"]).default("last"),
    /** Normalise each mixture. */
    skipNorm: z.boolean().default(true),
    /** Add a learned vector to the positions that the decoder starts from. */
    query: z.boolean().default(false),
    normalizePatches: z.boolean().default(true),
  })
  .prefault({});

export type RandsacOptions = z.output<typeof randsacOptions>;

class RandsacModules extends Module {
  backbone: Encoder;
  decoder: SegmentDecoder;
  /** [1, N, C] */
  positions: Tensor;

  constructor(backbone: Encoder, options: RandsacOptions) {
    super();
    const { width, stride, channels, depth } = backbone;
    const side = options.crops.globalSize / stride;
    this.backbone = backbone;
    this.decoder = new SegmentDecoder({
      width,
      depth: options.decoderDepth,
      heads: headsOf(options, width),
      outFeatures: stride ** 2 * channels,
      skips: options.skips === "learned" ? { layers: depth, init: options.skipInit, norm: options.skipNorm } : null,
      query: options.query,
    });
    this.positions = buffer(tidy(() => sinCosPositions([side, side], width).unsqueeze(0)));
  }

  forward(): never {
    throw new Error("internal: RandsacModules only holds what is trained");
  }
}

const headsOf = ({ decoderHeads }: RandsacOptions, width: number) => decoderHeads ?? Math.max(1, Math.round(width / 64));

/** What is predicted, and of which patches. */
export interface Predicted {
  /** [B, n, P P channels] */
  values: Tensor;
  /** Numbers of the patches they are for, int64 [B, n]. */
  patches: Tensor;
  /** Which of them count, [B, n] of 0 and 1; null for all. */
  counts: Tensor | null;
}

export class Randsac implements Method {
  readonly name = "randsac";
  readonly branch = "encoder";
  readonly decayRule = "no-bias-norm";
  readonly views: ViewPlan;
  readonly trainable: RandsacModules;
  readonly form: "fixed" | "dropped";

  constructor(
    readonly options: RandsacOptions,
    context: MethodContext,
  ) {
    this.views = plainCropViews(options.crops, context.data);
    this.trainable = new RandsacModules(context.encoder(), options);
    this.form = formOf(options);
  }

  get encoder(): Encoder {
    return this.trainable.backbone;
  }

  step(batch: Batch, at: Progress): StepResult {
    const images = batch.views.image!.flatten(0, 1);
    const { values, patches, counts } = this.predict(images, this.ranks(images));
    const target = patchTarget(images, this.encoder.stride, this.options.normalizePatches, patches);
    const squares = mseLoss(atLeastFloat32(values), target, { reduction: counts ? "none" : "mean" });
    const mse = counts
      ? squares
          .mean(-1)
          .mul(counts)
          .sum()
          .div(counts.sum().clamp({ min: 1 }))
      : squares;
    if (!at.report) return { loss: mse, terms: { mse } };
    return { loss: mse, terms: { mse }, metrics: this.metrics(values) };
  }

  /** The deviation of L2-normalised predictions over the batch: 0 where every image gets the same. */
  metrics(values: Tensor): Record<string, Tensor> {
    return noGrad(() => ({ featureStd: normalize(values.detach().float().mean(1)).std(0).mean() }));
  }

  /** The order that each image is predicted in: int64 [B, N], the place of each patch's segment. */
  ranks(images: Tensor): Tensor {
    const { segments, order, coherent } = this.options;
    const [batch = 0, , height = 0, width = 0] = images.shape;
    const grid = [height / this.encoder.stride, width / this.encoder.stride] as const;
    return tidy(() => {
      let levels: Level[] =
        segments.kind === "square"
          ? squareLevels(grid, segments.side, segments.partitions)
          : blobLevels(grid, batch, { counts: [segments.count, ...segments.partitions], deviation: segments.deviation });
      if (!coherent) levels = shuffled(levels, batch);
      return segmentRanks(levels, batch, order);
    });
  }

  /** Predicts every segment but the first from those before it. @param ranks int64 [B, N] */
  predict(images: Tensor, ranks: Tensor, form = this.form): Predicted {
    return form === "dropped" ? this.#dropped(images, ranks) : this.#fixed(images, ranks);
  }

  #dropped(images: Tensor, ranks: Tensor): Predicted {
    const { backbone, decoder, positions } = this.trainable;
    const [batch = 0, patches = 0] = ranks.shape;
    // Of one size, so the first rank's is all their size.
    const size = Math.round(ranks.eq(0).sum().item() / batch);
    const order = ranks.argsort({ dim: 1 });
    const seen = order.narrow(1, 0, patches - size);
    const wanted = order.slice(1, size);
    // The k-th block of the encoder's tokens is segment k, of the decoder's segment k + 1: all three masks are the same.
    const block = arange(0, patches - size).div(size, { roundingMode: "floor" });
    const mask = additive(block.unsqueeze(0).le(block.unsqueeze(1)))
      .unsqueeze(0)
      .unsqueeze(0);
    const memory = this.#encode(backbone, images, { subset: seen, attentionMask: mask });
    const queries = gatherTokens(positions, wanted);
    return { values: decoder.call(queries, memory, { self: mask, cross: mask }), patches: wanted, counts: null };
  }

  #fixed(images: Tensor, ranks: Tensor): Predicted {
    const { backbone, decoder, positions } = this.trainable;
    const [batch = 0, patches = 0] = ranks.shape;
    const [query, key] = [ranks.unsqueeze(2), ranks.unsqueeze(1)];
    const masks = noGrad(() => {
      const upTo = key.le(query);
      const itself = eye(patches).eq(1);
      return {
        encoder: additive(upTo),
        // Nobody looks at the first segment's queries; they look at themselves, because a softmax over nothing is not a number.
        self: additive(upTo.logicalAnd(key.ge(1)).logicalOr(itself)),
        cross: additive(key.lt(query).logicalOr(query.eq(0))),
      };
    });
    const [encoderMask, self, cross] = [masks.encoder, masks.self, masks.cross].map((each) => each.unsqueeze(1)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const memory = this.#encode(backbone, images, { attentionMask: encoderMask });
    const queries = positions.expand([batch, patches, positions.size(2)]);
    const all = arange(0, patches).expand([batch, patches]);
    return { values: decoder.call(queries, memory, { self, cross }), patches: all, counts: ranks.ge(1).float() };
  }

  /** The encoder's last tokens, or with skips those of every layer. */
  #encode(backbone: Encoder, images: Tensor, options: { subset?: Tensor; attentionMask: Tensor }): Tensor | Tensor[] {
    if (this.options.skips === "off") return backbone.call(images, options).tokens;
    const levels = Array.from({ length: backbone.depth }, (_, level) => level);
    return backbone.call(images, { ...options, levels }).levels;
  }

  afterStep(): void {
    // Nothing follows a step.
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.encoder.loadWeights(weights);
  }

  picture(batch: Batch): Picture[] {
    return noGrad(() => randsacPictures(this, batch));
  }

  state(): StateDict {
    return this.trainable.stateDict();
  }
}

/** 0 where allowed, minus infinity elsewhere. */
function additive(allowed: Tensor): Tensor {
  return noGrad(() => zeros(allowed.shape).maskedFill(allowed.logicalNot(), Number.NEGATIVE_INFINITY));
}

function formOf({ form, segments }: RandsacOptions): "fixed" | "dropped" {
  return form === "auto" ? (segments.kind === "square" ? "dropped" : "fixed") : form;
}

export const randsac = defineMethod({
  name: "randsac",
  options: randsacOptions,
  // MAE's recipe, which the paper's settings follow as far as they are known.
  defaults: () => ({
    model: { vit: { positions: "sin-cos", init: "mae", classToken: false } },
    optimizer: { lr: 1.5e-4, betas: [0.9, 0.95], weightDecay: 0.05, finalLr: 0, clip: { kind: "none" } },
  }),
  check: (options, { grid: [rows, columns], width, classToken }) => {
    const { segments, form } = options;
    const issues: MethodIssue[] = [];
    if (classToken) {
      issues.push({
        path: "name",
        message: 'is "randsac", in which no token may see all segments; expected model.classToken to be false',
      });
    }
    if (segments.kind === "square") {
      let before = 1;
      for (const [i, side] of [segments.side, ...segments.partitions].entries()) {
        const path = i === 0 ? "segments.side" : `segments.partitions.${i - 1}`;
        if (rows % side !== 0 || columns % side !== 0 || side % before !== 0 || (i > 0 && side === before)) {
          const than = i === 0 ? "" : `, a multiple of ${before} that is larger`;
          issues.push({ path, message: `is ${side}; expected a divisor of the ${rows}x${columns} grid of patches${than}` });
          break;
        }
        before = side;
      }
      if (segments.side === rows && segments.side === columns) {
        issues.push({
          path: "segments.side",
          message: `is ${rows}, which leaves one segment and nothing to predict; expected a smaller one`,
        });
      }
    } else {
      if (form === "dropped") {
        issues.push({ path: "form", message: 'is "dropped"; expected "fixed" or "auto", because blobs differ in size' });
      }
      if (segments.deviation[0] > segments.deviation[1]) {
        issues.push({ path: "segments.deviation", message: `is [${segments.deviation.join(", ")}]; expected [low, high]` });
      }
    }
    const heads = headsOf(options, width);
    if (width % heads !== 0)
      issues.push({ path: "decoderHeads", message: `is ${heads}; expected a divisor of the width, ${width}` });
    return issues;
  },
  create: (options, context): Method => new Randsac(options, context),
});
