// CAE (Chen et al., 2022; IJCV 2024): the encoder represents visible patches only; a regressor predicts, in the space of these
// representations, what the encoder would say of the masked ones; a decoder turns the predicted representations into targets. So the encoder is
// left to represent, and does not have to complete.
//
//   Z_v = F(X_v), Z_m = F(X_m)     representations of visible and masked patches; Z_m without gradient, under the current weights
//   Zbar_m = H(Q_m, Z_v)           the regressor's prediction from mask queries and Z_v
//   Ybar_m = G(Zbar_m)             the decoder's prediction, from masked patches only
//   L = l_y(Ybar_m, Y_m) + lambda l_z(Zbar_m, Z_m)      (section 3.3); l_z: mean squared error
import { z } from "zod";
import { type Batch, denormalise, namedStream, Rng, type ViewPlan } from "../data/index.js";
import { type Picture, reconstructionGrid } from "../draw/index.js";
import { Block, type Encoder, gatherTokens, LatentRegressor, sinCosPositions, throughBlocks } from "../models/index.js";
import { buffer, init, LayerNorm, Linear, Module, parameter, type StateDict } from "../nn/index.js";
import {
  atLeastFloat32,
  cat,
  empty,
  fromTypedArray,
  mseLoss,
  noGrad,
  normalize,
  type Tensor,
  tidy,
  zeros,
} from "../torch/index.js";
import { blockMask, scatteredMask } from "./block-mask.js";
import { type CaeBatch, type CaeTarget, caeTargetOptions, createTarget } from "./cae-targets.js";
import { defineMethod, type Method, type MethodContext, type MethodIssue, type Progress, type StepResult } from "./method.js";
import { plainCrop, plainCropViews } from "./plain-crop.js";

/** Defaults are the reference code's for ViT-B, unless said. */
export const caeOptions = z
  .strictObject({
    crops: plainCrop(0.08),
    /** What is predicted: codes of a tokenizer (the paper), pixels (default, needs nothing else), features of a frozen encoder (CAE v2). */
    target: caeTargetOptions,
    /** Blocks of patches, or patches one by one. */
    mask: z.enum(["block", "random"]).default("block"),
    /** Share of the patches that is hidden, the same number of each image. CAE v2: 0.15 (tiny), 0.25 (small), 0.5 (base). */
    maskRatio: z.number().gt(0).lt(1).default(0.5),
    /** Fewest patches that a block is planned with. Default: 16 on the paper's grid of 14 x 14, in proportion on others. */
    smallestBlock: z.int().positive().optional(),
    regressorDepth: z.int().min(0).default(4),
    decoderDepth: z.int().min(0).default(4),
    /** Width of regressor and decoder. Default the encoder's; another one adds a projection. */
    decoderWidth: z.int().positive().optional(),
    /** Heads of regressor and decoder. */
    decoderHeads: z.int().positive().default(12),
    decoderLayerScale: z.number().positive().default(0.1),
    /** Largest drop-path probability in regressor and decoder, each. */
    decoderDropPath: z.number().min(0).lt(1).default(0.1),
    /** Normalise the regressor's output. CAE v2 does not. */
    regressorNorm: z.boolean().default(true),
    /** lambda; 0 turns the alignment off, and saves its pass. */
    align: z.number().min(0).default(2),
    /** The encoder's drop path is on while it makes Z_m, as in the reference code; it is noise in the target. */
    alignDropPath: z.boolean().default(true),
  })
  .prefault({});

export type CaeOptions = z.output<typeof caeOptions>;

/** A stack of self-attention blocks over the masked patches, a norm and the prediction. */
class CaeDecoder extends Module {
  blocks: Block[];
  norm: LayerNorm;
  head: Linear;
  gradientCheckpointing = false;

  constructor(width: number, outFeatures: number, options: CaeOptions) {
    super();
    const { decoderDepth: depth, decoderHeads: heads, decoderLayerScale: layerScale, decoderDropPath } = options;
    this.blocks = Array.from(
      { length: depth },
      (_, i) => new Block({ width, heads, keyBias: false, layerScale, dropPath: (decoderDropPath * i) / Math.max(1, depth - 1) }),
    );
    this.norm = new LayerNorm(width);
    this.head = new Linear(width, outFeatures);
  }

  /** Latents of the masked patches [B, m, C] and their positions -> [B, m, out]; `others` skip the blocks and come first. */
  forward(latents: Tensor, positions: Tensor, others: Tensor | null = null): Tensor {
    const x = this.blocks.length > 0 ? throughBlocks(this.blocks, latents.add(positions), this) : latents;
    return this.head.call(this.norm.call(others ? cat([others, x], 1) : x));
  }
}

class CaeModules extends Module {
  backbone: Encoder;
  /** Where regressor and decoder have another width than the encoder. */
  projection: Linear | null;
  projectionNorm: LayerNorm | null;
  maskToken: Tensor;
  regressor: LatentRegressor;
  decoder: CaeDecoder;
  /** Of regressor and decoder, [1, N, C] */
  positions: Tensor;

  constructor(backbone: Encoder, outFeatures: number, options: CaeOptions) {
    super();
    const width = options.decoderWidth ?? backbone.width;
    const side = options.crops.globalSize / backbone.stride;
    this.backbone = backbone;
    this.projection = width === backbone.width ? null : new Linear(backbone.width, width);
    this.projectionNorm = width === backbone.width ? null : new LayerNorm(width);
    this.maskToken = parameter(truncated(empty([1, 1, width])));
    this.regressor = new LatentRegressor({
      width,
      depth: options.regressorDepth,
      heads: options.decoderHeads,
      layerScale: options.decoderLayerScale,
      dropPath: options.decoderDropPath,
      norm: options.regressorNorm,
    });
    this.decoder = new CaeDecoder(width, outFeatures, options);
    this.positions = buffer(tidy(() => sinCosPositions([side, side], width).unsqueeze(0)));
    for (const part of [this.regressor, this.decoder, this.projection]) if (part) xavier(part);
  }

  /** The encoder's output in the regressor's width. */
  project(tokens: Tensor): Tensor {
    return this.projection ? this.projectionNorm!.call(this.projection.call(tokens)) : tokens;
  }

  forward(): never {
    throw new Error("internal: CaeModules only holds what is trained");
  }
}

/** Truncated at one standard deviation, as the reference code has it. */
const truncated = (tensor: Tensor) => init.truncNormal_(tensor, { std: 0.02, a: -0.02, b: 0.02 });

function xavier(module: Module): void {
  noGrad(() =>
    module.apply((each) => {
      if (!(each instanceof Linear)) return;
      init.xavierUniform_(each.weight);
      if (each.bias) init.constant_(each.bias, 0);
    }),
  );
}

/** What a forward pass gives. */
export interface CaeForward {
  /** Zbar_m [B, m, C] */
  latents: Tensor;
  /** Z_m [B, m, C], without history; null where there is no alignment. */
  aligned: Tensor | null;
  /** Ybar_m, [B, m, out], or of all tokens where the target asks for them. */
  predicted: Tensor;
  /** What the encoder says of class token and visible patches. */
  tokens: Tensor;
}

export class Cae implements Method {
  readonly name = "cae";
  readonly branch = "encoder";
  /** Class and mask token have three dimensions and decay, as in the reference. */
  readonly decayRule = "no-bias-norm";
  readonly views: ViewPlan;
  readonly target: CaeTarget;
  readonly trainable: CaeModules;
  readonly #rng: Rng;

  constructor(
    readonly options: CaeOptions,
    context: MethodContext,
  ) {
    const encoder = context.encoder();
    const { globalSize: size } = options.crops;
    this.target = createTarget(options.target, { encoder, size, data: context.data, views: () => this.views });
    this.views = plainCropViews(options.crops, context.data, this.target.pair ? [this.target.pair] : []);
    this.trainable = new CaeModules(encoder, this.target.outFeatures, options);
    this.#rng = new Rng(context.seed);
  }

  get encoder(): Encoder {
    return this.trainable.backbone;
  }

  step(batch: Batch, at: Progress): StepResult {
    const given = this.given(batch, at.epoch);
    const { latents, aligned, predicted, tokens } = this.forward(given);
    const { term, loss: target, metrics } = this.target.loss(predicted, given);
    const terms: Record<string, Tensor> = { [term]: target };
    let loss = target;
    if (aligned) {
      terms.align = mseLoss(atLeastFloat32(latents), atLeastFloat32(aligned));
      loss = loss.add(terms.align.mul(this.options.align));
    }
    if (!at.report) return { loss, terms };
    const feature = tokens.detach().float().mean(1);
    return { loss, terms, metrics: { ...metrics, featureStd: noGrad(() => normalize(feature).std(0).mean()) } };
  }

  /** A batch, and which of its patches are masked: a pure function of the seed, the epoch and the sample. */
  given(batch: Batch, epoch: number): CaeBatch {
    const images = batch.views.image!.flatten(0, 1);
    const { stride } = this.encoder;
    const grid = [images.size(2) / stride, images.size(3) / stride] as const;
    const patches = grid[0] * grid[1];
    const count = hiddenOf(this.options.maskRatio, patches);
    const masks = Array.from(batch.index, (sample) => {
      const rng = this.#rng.at(epoch, sample, namedStream("cae mask"));
      if (this.options.mask === "random") return scatteredMask(rng, patches, count);
      return blockMask(rng, grid, {
        count,
        smallest: this.options.smallestBlock ?? Math.max(1, Math.round((16 * patches) / 196)),
      });
    });
    const masked = new BigInt64Array(masks.length * count);
    const visible = new BigInt64Array(masks.length * (patches - count));
    for (const [i, mask] of masks.entries()) {
      const hidden = new Set(mask);
      let [m, v] = [i * count, i * (patches - count)];
      for (let patch = 0; patch < patches; patch++) {
        if (hidden.has(patch)) masked[m++] = BigInt(patch);
        else visible[v++] = BigInt(patch);
      }
    }
    const rows = masks.length;
    return {
      batch,
      images,
      masked: fromTypedArray(masked, [rows, count], { device: images.device }),
      visible: fromTypedArray(visible, [rows, patches - count], { device: images.device }),
    };
  }

  forward({ images, masked, visible }: CaeBatch): CaeForward {
    const { backbone, maskToken, regressor, decoder, positions } = this.trainable;
    const { prefix } = backbone;
    const seen = backbone.call(images, { subset: visible }).tokens;
    const tokens = this.trainable.project(seen);
    const aligned = this.options.align > 0 ? this.align(images, masked) : null;
    const [batch = 0, count = 0] = masked.shape;
    const places = { masked: gatherTokens(positions, masked), visible: gatherTokens(positions, visible) };
    // The class token is not seen by regressor and decoder.
    const latentVisible = tokens.slice(1, prefix);
    const queries = maskToken.to(tokens.dtype).expand([batch, count, maskToken.size(2)]);
    const latents = regressor.call(queries, latentVisible, places);
    return {
      latents,
      aligned,
      predicted: decoder.call(latents, places.masked, this.target.everything ? tokens : null),
      tokens: seen,
    };
  }

  /** Z_m: the same encoder, as it is now, on the masked patches. */
  align(images: Tensor, masked: Tensor): Tensor {
    const { backbone } = this.trainable;
    const { training } = backbone;
    if (!this.options.alignDropPath) backbone.eval();
    const latents = noGrad(() =>
      this.trainable.project(backbone.call(images, { subset: masked }).tokens).slice(1, backbone.prefix),
    );
    backbone.train(training);
    return latents;
  }

  afterStep(): void {
    // Nothing follows a step: there is no second encoder to move.
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.encoder.loadWeights(weights);
  }

  /** Original, what the encoder saw, and the target's image with the predictions in it; the masks alone where a target cannot be seen. */
  picture(batch: Batch): Picture[] {
    return noGrad(() => {
      const given = this.given(batch, 0);
      const { images, masked } = given;
      const { stride } = this.encoder;
      const [rows, columns] = [images.size(2) / stride, images.size(3) / stride];
      const original = denormalise(images, this.views);
      const mask = zeros([images.size(0), rows * columns])
        .scatter_(1, masked, 1)
        .unflatten(1, [rows, columns]);
      const made = this.target.images?.(this.forward(given).predicted, given);
      if (!made)
        return [{ name: "masks", image: reconstructionGrid({ original, mask, reconstruction: original, direction: "across" }) }];
      const reconstruction = (this.options.target.kind === "tokens" ? made : denormalise(made, this.views)).clamp({
        min: 0,
        max: 1,
      });
      return [{ name: "reconstruction", image: reconstructionGrid({ original, mask, reconstruction, direction: "across" }) }];
    });
  }

  state(): StateDict {
    return this.trainable.stateDict();
  }
}

/** How many of so many patches are hidden. */
const hiddenOf = (ratio: number, patches: number) => Math.round(ratio * patches);

export const cae = defineMethod({
  name: "cae",
  options: caeOptions,
  defaults: () => ({
    model: { vit: { positions: "sin-cos", init: "cae", layerScale: 0.1, keyBias: false, dropPath: 0.1 } },
    optimizer: { lr: 1.5e-3, lrScaling: "none", weightDecay: 0.05, finalLr: 1e-5, clip: { kind: "global", maxNorm: 3 } },
    knn: { readout: "mean" },
  }),
  check: ({ maskRatio, decoderWidth, decoderHeads, target }, { grid: [rows, columns], width, classToken }) => {
    const issues: MethodIssue[] = [];
    const hidden = hiddenOf(maskRatio, rows * columns);
    if (hidden < 1 || hidden >= rows * columns) {
      issues.push({
        path: "maskRatio",
        message: `is ${maskRatio}; expected one that hides some of the ${rows}x${columns} patches, and not all`,
      });
    }
    const inner = decoderWidth ?? width;
    if (inner % decoderHeads !== 0 || inner % 4 !== 0) {
      issues.push({
        path: decoderWidth === undefined ? "decoderHeads" : "decoderWidth",
        message: `is ${decoderWidth ?? decoderHeads}; expected heads that divide the width of regressor and decoder, ${inner}, which is a multiple of 4`,
      });
    }
    if (target.kind === "features" && target.tokens === "all" && !classToken) {
      issues.push({ path: "target.tokens", message: 'is "all"; expected "masked", because model.classToken is false' });
    }
    return issues;
  },
  create: (options, context): Method => new Cae(options, context),
});
