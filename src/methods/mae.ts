// MAE (He et al., 2022): an encoder sees a quarter of the patches, a light decoder predicts the pixels of the others. The baseline that the
// masked methods here are compared with.
//
//   L = mean over masked patches of the mean squared difference to the patch's pixels, normalised patch by patch  (section 3)
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import { denormalise } from "../data/index.js";
import { type Picture, reconstructionGrid } from "../draw/index.js";
import { type Encoder, MaeDecoder } from "../models/index.js";
import { Module, type StateDict } from "../nn/index.js";
import { atLeastFloat32, mseLoss, noGrad, normalize, rand, type Tensor, zeros } from "../torch/index.js";
import { defineMethod, type Method, type MethodContext, type Progress, type StepResult } from "./method.js";
import { imagesOfPatches, patchTarget } from "./patch-target.js";
import { plainCropOptions, plainCropViews } from "./plain-crop.js";

/** Defaults are the paper's for ViT-B. */
export const maeOptions = z
  .strictObject({
    crops: plainCropOptions,
    /** Share of the patches that is hidden. */
    maskRatio: z.number().gt(0).lt(1).default(0.75),
    /** The decoder. */
    decoderWidth: z.int().positive().default(512),
    decoderDepth: z.int().min(0).default(8),
    decoderHeads: z.int().positive().default(16),
    /** Predict each patch's pixels normalised by its own mean and deviation (the paper's better variant). */
    normalizePatches: z.boolean().default(true),
  })
  .prefault({});

export type MaeOptions = z.output<typeof maeOptions>;

class MaeModules extends Module {
  backbone: Encoder;
  decoder: MaeDecoder;

  constructor(backbone: Encoder, { decoderWidth: width, decoderDepth: depth, decoderHeads: heads, crops }: MaeOptions) {
    super();
    this.backbone = backbone;
    const { width: inFeatures, stride, channels, prefix } = backbone;
    const side = crops.globalSize / stride;
    const outFeatures = stride ** 2 * channels;
    this.decoder = new MaeDecoder({ inFeatures, outFeatures, grid: [side, side], prefix, width, depth, heads });
  }

  forward(): never {
    throw new Error("internal: MaeModules only holds what is trained");
  }
}

/** Which patches are seen: int64 numbers of the visible ones [B, n] and the hidden ones [B, N - n]. */
export interface PatchChoice {
  visible: Tensor;
  masked: Tensor;
}

export class Mae implements Method {
  readonly name = "mae";
  readonly branch = "encoder";
  readonly decayRule = "no-bias-norm";
  readonly views: ViewPlan;
  readonly trainable: MaeModules;

  constructor(
    readonly options: MaeOptions,
    context: MethodContext,
  ) {
    this.views = plainCropViews(options.crops, context.data);
    this.trainable = new MaeModules(context.encoder(), options);
  }

  get encoder(): Encoder {
    return this.trainable.backbone;
  }

  step(batch: Batch, at: Progress): StepResult {
    const images = batch.views.image!.flatten(0, 1);
    const { stride } = this.encoder;
    const choice = this.choose(images.size(0), (images.size(2) / stride) * (images.size(3) / stride));
    const { tokens, predicted } = this.predict(images, choice);
    const target = patchTarget(images, stride, this.options.normalizePatches, choice.masked);
    const mse = mseLoss(atLeastFloat32(predicted), target);
    if (!at.report) return { loss: mse, terms: { mse } };
    const feature = tokens.detach().float().mean(1);
    return { loss: mse, terms: { mse }, metrics: { featureStd: noGrad(() => normalize(feature).std(0).mean()) } };
  }

  /** The same number of patches of each image, by shuffling: `noise` [B, N] decides, the lowest are kept. */
  choose(batch: number, patches: number, noise: Tensor = rand([batch, patches])): PatchChoice {
    const kept = Math.floor(patches * (1 - this.options.maskRatio));
    const order = noise.argsort({ dim: 1 });
    return { visible: order.narrow(1, 0, kept), masked: order.slice(1, kept) };
  }

  /** The encoder's tokens of the visible patches, and the pixels predicted of the masked ones, [B, m, P P channels]. */
  predict(images: Tensor, { visible, masked }: PatchChoice): { tokens: Tensor; predicted: Tensor } {
    const { tokens } = this.encoder.call(images, { subset: visible });
    return { tokens, predicted: this.trainable.decoder.call(tokens, visible, masked) };
  }

  afterStep(): void {
    // Nothing follows a step.
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.encoder.loadWeights(weights);
  }

  /** Original, what the encoder saw, and its patches with the predicted ones between them. */
  picture(batch: Batch): Picture[] {
    return noGrad(() => {
      const images = batch.views.image!.flatten(0, 1);
      const { stride } = this.encoder;
      const { normalizePatches } = this.options;
      const [rows, columns] = [images.size(2) / stride, images.size(3) / stride];
      const choice = this.choose(images.size(0), rows * columns);
      const { predicted } = this.predict(images, choice);
      const index = choice.masked.unsqueeze(-1).expand(predicted.shape);
      const patches = patchTarget(images, stride, normalizePatches).clone().scatter_(1, index, predicted.float());
      const whole = imagesOfPatches(patches, images, stride, normalizePatches);
      const mask = zeros([images.size(0), rows * columns])
        .scatter_(1, choice.masked, 1)
        .unflatten(1, [rows, columns]);
      const reconstruction = denormalise(whole, this.views).clamp({ min: 0, max: 1 });
      const image = reconstructionGrid({ original: denormalise(images, this.views), mask, reconstruction, direction: "across" });
      return [{ name: "reconstruction", image }];
    });
  }

  state(): StateDict {
    return this.trainable.stateDict();
  }
}

export const mae = defineMethod({
  name: "mae",
  options: maeOptions,
  defaults: () => ({
    // Its code puts the column first.
    model: { vit: { positions: "sin-cos", sinCos: { order: "column-row" }, init: "mae" } },
    optimizer: { lr: 1.5e-4, betas: [0.9, 0.95], weightDecay: 0.05, finalLr: 0, clip: { kind: "none" } },
    knn: { readout: "mean" },
  }),
  check: ({ maskRatio, decoderWidth, decoderHeads }, { grid: [rows, columns] }) => {
    const kept = Math.floor(rows * columns * (1 - maskRatio));
    return [
      ...(kept >= 1
        ? []
        : [
            {
              path: "maskRatio",
              message: `is ${maskRatio}; expected one that leaves a patch of the ${rows}x${columns} grid to be seen`,
            },
          ]),
      ...(decoderWidth % decoderHeads === 0 && decoderWidth % 4 === 0
        ? []
        : [
            {
              path: "decoderWidth",
              message: `is ${decoderWidth}; expected a multiple of 4 and of decoderHeads, ${decoderHeads}`,
            },
          ]),
    ];
  },
  create: (options, context): Method => new Mae(options, context),
});
