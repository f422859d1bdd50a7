// MST (Li et al., 2021): DINO in which the student sees some patches only as a mask token, chosen where the teacher's attention is low,
// and restores the whole image from all its tokens.
//
//   L = lambda_1 L_ce + lambda_2 L_restore          (section 3.4)
//   L_ce        DINO's cross-entropy over pairs of views
//   L_restore   distance (L1) between the decoder's image and the view, over the whole image (section 3.3)
//
// The paper gives the strategy, the decoder's purpose and the loss; it leaves open which views are masked, num and p, the decoder's
// layers and the weights. Those are options here, with our defaults: docs/methods/mst.md says which is which.
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import type { Picture } from "../draw/index.js";
import { type Encoder, ImageDecoder, spreadCells } from "../models/index.js";
import { init, Module, parameter, type StateDict } from "../nn/index.js";
import { empty, noGrad, type Tensor } from "../torch/index.js";
import { attentionGuidedMask, randomMask } from "./attention-mask.js";
import { Dino, type DinoNetwork, dinoOptions } from "./dino.js";
import { globalCrops } from "./framework.js";
import { distanceOption, imageDistance } from "./image-distance.js";
import { defineMethod, type Method, type MethodContext, type Progress, type StepResult, type TrivialLevel } from "./method.js";
import { mstPictures } from "./mst-pictures.js";

export const mstOptions = z
  .strictObject({
    /** Everything of the framework below. */
    dino: dinoOptions,
    /** Which tokens of the student's global crops are masked. `random` and `none` are the paper's ablation. */
    mask: z.enum(["attention", "random", "none"]).default("attention"),
    /** The lowest 1 / num of the patches are candidates. */
    num: z.number().min(1).default(8),
    /** Probability to mask a candidate (`attention`) or any token (`random`). */
    p: z.number().min(0).max(1).default(0.5),
    /** Restore the image. Off is the other half of the ablation. */
    decoder: z.enum(["on", "off"]).default("on"),
    /** Which views are masked and restored: both global crops, of which the teacher's attention is there anyway, or the first only. */
    reconstruct: z.enum(["global", "first"]).default("global"),
    /** What L_restore is over: the whole image, or the masked patches only, which the paper argues against. */
    region: z.enum(["image", "masked"]).default("image"),
    /** The distance of L_restore. */
    distance: distanceOption.default("l1"),
    /** The decoder's form (models/image-decoder.ts), its widest and narrowest stage, and whether its stages have batch norm. */
    decoderForm: z.enum(["deconvolution", "sub-pixel"]).default("deconvolution"),
    decoderWidth: z.int().positive().default(256),
    decoderNarrowest: z.int().positive().default(32),
    decoderBatchNorm: z.boolean().default(true),
    /** Weights of the two terms. */
    lambda1: z.number().min(0).default(1),
    lambda2: z.number().min(0).default(0.6),
  })
  .prefault({});

export type MstOptions = z.output<typeof mstOptions>;

class MstModules extends Module {
  student: DinoNetwork;
  /** e_mask, [embedWidth] */
  maskToken: Tensor;
  decoder: ImageDecoder | null;

  constructor(student: DinoNetwork, options: MstOptions) {
    super();
    const { backbone } = student;
    this.student = student;
    this.maskToken = parameter(init.truncNormal_(empty([backbone.embedWidth])));
    this.decoder =
      options.decoder === "on"
        ? new ImageDecoder({
            inFeatures: backbone.width,
            stride: backbone.stride,
            channels: backbone.channels,
            form: options.decoderForm,
            width: options.decoderWidth,
            narrowest: options.decoderNarrowest,
            batchNorm: options.decoderBatchNorm,
          })
        : null;
  }

  forward(): never {
    throw new Error("internal: MstModules only holds what is trained");
  }
}

export class Mst implements Method {
  readonly name = "mst";
  readonly branch = "teacher";
  readonly decayRule = "no-bias-norm";
  readonly dino: Dino;
  readonly trainable: MstModules;

  constructor(
    readonly options: MstOptions,
    context: MethodContext,
  ) {
    this.dino = new Dino(options.dino, context);
    this.trainable = new MstModules(this.dino.student, options);
  }

  get views(): ViewPlan {
    return this.dino.views;
  }
  get encoder(): Encoder {
    return this.dino.encoder;
  }
  get trivialLevels(): TrivialLevel[] {
    return this.dino.trivialLevels;
  }

  step(batch: Batch, at: Progress): StepResult {
    const { lambda1, lambda2 } = this.options;
    const taught = this.dino.teach(batch, at, { attention: this.options.mask === "attention" });
    const mask = this.mask(globalCrops(batch), taught.attention);
    // The second view stays whole where only the first is restored.
    const whole = globalCrops(batch).size(0) - this.#restored(batch);
    if (mask && whole > 0) mask.narrow(0, whole, whole).fill_(0);
    const studied = this.dino.study(batch, {
      global: { classOnly: !this.trainable.decoder, ...(mask ? { mask: { where: mask, token: this.trainable.maskToken } } : {}) },
    });
    const ce = this.dino.loss(taught, studied);
    const { patches, grid } = studied.global;
    let loss = ce.mul(lambda1);
    const terms: Record<string, Tensor> = { ce };
    if (this.trainable.decoder && patches) {
      const count = this.#restored(batch);
      const restored = this.trainable.decoder.call(patches.narrow(0, 0, count), grid);
      const where =
        this.options.region === "masked"
          ? spreadCells(mask!.narrow(0, 0, count), grid, this.encoder.stride).unsqueeze(1)
          : undefined;
      const restore = imageDistance(this.options.distance, restored, globalCrops(batch).narrow(0, 0, count), where);
      loss = loss.add(restore.mul(lambda2));
      terms.restore = restore;
    }
    if (!at.report) return { loss, terms };
    const metrics = this.dino.metrics(taught, studied, ce);
    if (mask) metrics.maskedShare = mask.float().mean();
    return { loss, terms, metrics };
  }

  /** How many of the global crops, from the first on, are masked and restored. */
  #restored({ views }: Batch): number {
    return views.global!.size(1) * (this.options.reconstruct === "first" ? 1 : 2);
  }

  /** Which patches of the global crops the student does not see, bool [2 B, N]; null for none. The teacher is never masked. */
  mask(images: Tensor, attention: Tensor | null): Tensor | null {
    const { mask, num, p } = this.options;
    if (mask === "none") return null;
    if (mask === "attention") return attentionGuidedMask(attention!.slice(2, this.encoder.prefix).float().mean(1), { num, p });
    const [batch = 0, , height = 0, width = 0] = images.shape;
    return randomMask(batch, (height / this.encoder.stride) * (width / this.encoder.stride), p, images);
  }

  beforeUpdate(at: Progress): void {
    this.dino.beforeUpdate(at);
  }

  afterStep(at: Progress): void {
    this.dino.afterStep(at);
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.dino.initEncoder(weights);
  }

  picture(batch: Batch): Picture[] {
    return noGrad(() => mstPictures(this, batch));
  }

  state(): StateDict {
    const own = new Map([...this.trainable.stateDict()].filter(([name]) => !name.startsWith("student.")));
    return new Map([...this.dino.state(), ...own]);
  }
}

export const mst = defineMethod({
  name: "mst",
  options: mstOptions,
  backbones: ["vit", "swin"],
  check: ({ mask, region }) =>
    mask === "none" && region === "masked"
      ? [{ path: "region", message: 'is "masked"; expected "image", because method.mask is "none"' }]
      : [],
  create: (options, context): Method => new Mst(options, context),
});
