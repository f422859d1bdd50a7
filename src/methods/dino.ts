// DINO (Caron et al., 2021): a student learns to give all crops of an image the distribution that its own moving average, the teacher,
// gives the global crops.
//
//   g_s, g_t   student and teacher: encoder and projection head; theta_t <- m theta_t + (1 - m) theta_s after each step
//   c          centre: moving average of the teacher's raw logits; subtracted before the softmax, so that no prototype wins by itself
//   tau_s, tau_t   temperatures; a low tau_t sharpens the teacher, which balances the centre's pull towards uniform
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import type { Picture } from "../draw/index.js";
import { DinoHead, type Encoded, type EncodeOptions, type Encoder } from "../models/index.js";
import { buffer, Module, type StateDict } from "../nn/index.js";
import { Ema } from "../optim/index.js";
import { cat, keep, noGrad, normalize, type Tensor, zeros } from "../torch/index.js";
import { dinoLoss, meanEntropy, teacherDistribution } from "./dino-loss.js";
import { type Contrasted, type Framework, globalCrops } from "./framework.js";
import { frameworkPictures } from "./framework-pictures.js";
import { defineMethod, type MethodContext, type Progress, type StepResult, type TrivialLevel } from "./method.js";
import { multiCropOptions, multiCropViews } from "./multi-crop.js";

/** Defaults are the reference code's (appendix C of the paper and its arguments), unless said. */
export const dinoOptions = z
  .strictObject({
    crops: multiCropOptions,
    /** The projection head: K prototypes, hidden and bottleneck widths, Linear layers before the last. */
    head: z
      .strictObject({
        outFeatures: z.int().min(2).default(65536),
        hidden: z.int().positive().default(2048),
        bottleneck: z.int().positive().default(256),
        layers: z.int().min(1).default(3),
        batchNorm: z.boolean().default(false),
        /** Keep the prototypes' lengths at 1. The released ViT-S was trained without. */
        normLastLayer: z.boolean().default(true),
      })
      .prefault({}),
    /** tau_s */
    studentTemperature: z.number().positive().default(0.1),
    /** tau_t: from `from` to `to` over `epochs` epochs, epoch by epoch, then constant. The longer published runs use 0.07 over 30. */
    teacherTemperature: z
      .strictObject({
        from: z.number().positive().default(0.04),
        to: z.number().positive().default(0.04),
        epochs: z.int().min(0).default(0),
      })
      .prefault({}),
    /** m: along a cosine from this value to 1. Small batches want more: 0.9995 for 256. */
    momentum: z.number().min(0).max(1).default(0.996),
    /** How much of the centre stays at each step. */
    centerMomentum: z.number().min(0).max(1).default(0.9),
    /** Epochs in which the last layer gets no gradient. */
    freezeLastLayer: z.int().min(0).default(1),
  })
  .prefault({});

export type DinoOptions = z.output<typeof dinoOptions>;

/** Encoder and head. State-dict names: `backbone.*`, `head.*`, as in DINO's checkpoints. */
export class DinoNetwork extends Module {
  backbone: Encoder;
  head: DinoHead;

  constructor(backbone: Encoder, options: DinoOptions["head"]) {
    super();
    this.backbone = backbone;
    this.head = new DinoHead({ inFeatures: backbone.width, ...options });
  }

  /** Groups of images, each group of one size: one encoder call a group, one head call for all. Logits [sum of B, K]. */
  forward(groups: readonly { images: Tensor; options: EncodeOptions }[]): { logits: Tensor; encoded: Encoded[] } {
    const encoded = groups.map(({ images, options }) => this.backbone.call(images, options));
    const features = encoded.map(({ feature }) => feature);
    return { logits: this.head.call(features.length === 1 ? features[0]! : cat(features)), encoded };
  }
}

/** What the teacher says of the global crops. */
export interface Taught {
  /** P_t, [2, B, K] */
  distribution: Tensor;
  /** Attention of the class token in the last block, [2 B, heads, 1 + N]; null unless asked for. */
  attention: Tensor | null;
}

/** What the student says of all crops. */
export interface Studied {
  /** [V, B, K] */
  logits: Tensor;
  /** The encoder's output for the global crops, [2 B, ...]. */
  global: Encoded;
}

export class Dino implements Framework {
  readonly name: string = "dino";
  readonly branch = "teacher";
  readonly decayRule = "no-bias-norm";
  readonly views: ViewPlan;
  readonly student: DinoNetwork;
  readonly teacher: DinoNetwork;
  /** c, [1, K] */
  readonly center: Tensor;
  readonly #ema: Ema;
  /** Means of raw teacher logits since the last update of the centre, one for each accumulated batch. */
  #pending: Tensor[] = [];

  constructor(
    readonly options: DinoOptions,
    context: MethodContext,
  ) {
    this.views = multiCropViews(options.crops, context.data);
    this.student = new DinoNetwork(context.encoder(), options.head);
    this.teacher = new DinoNetwork(context.encoder({ dropPath: false }), options.head);
    this.center = buffer(zeros([1, options.head.outFeatures]));
    this.#ema = new Ema(this.teacher, this.student).start();
  }

  get trainable(): Module {
    return this.student;
  }
  get encoder(): Encoder {
    return this.teacher.backbone;
  }
  get trivialLevels(): TrivialLevel[] {
    const K = this.options.head.outFeatures;
    return [
      { term: "ce", value: Math.log(K), meaning: `collapse to uniform: the loss is ln K = ${Math.log(K).toFixed(4)} (K = ${K})` },
    ];
  }

  get online(): Encoder {
    return this.student.backbone;
  }

  step(batch: Batch, at: Progress): StepResult {
    const { loss, terms, metrics } = this.contrast(batch, at);
    return { loss, terms, ...(metrics ? { metrics } : {}) };
  }

  contrast(batch: Batch, at: Progress, wanted?: EncodeOptions): Contrasted {
    const taught = this.teach(batch, at);
    const studied = this.study(batch, { global: { classOnly: true, ...wanted } });
    const ce = this.loss(taught, studied);
    const metrics = at.report ? { metrics: this.metrics(taught, studied, ce) } : {};
    return { loss: ce, terms: { ce }, ...metrics, images: globalCrops(batch), encoded: studied.global };
  }

  /** The teacher's pass over the global crops; its raw logits are noted for the centre. */
  teach(batch: Batch, at: Progress, { attention = false }: { attention?: boolean } = {}): Taught {
    return noGrad(() => {
      const images = globalCrops(batch);
      const { logits, encoded } = this.teacher.call([{ images, options: { classOnly: true, attention } }]);
      const raw = logits.float();
      this.#pending.push(keep(raw.mean(0, { keepdim: true })));
      const distribution = teacherDistribution(
        raw.unflatten(0, [2, -1]),
        this.center,
        teacherTemperature(this.options, at.epoch),
      );
      return { distribution, attention: encoded[0]!.attention };
    });
  }

  /** The student's pass over all crops. `global` says what is wanted of the encoder on the global ones beyond the class token. */
  study(batch: Batch, { global }: { global?: EncodeOptions } = {}): Studied {
    const { local } = batch.views;
    const groups = [{ images: globalCrops(batch), options: global ?? { classOnly: true } }];
    if (local) groups.push({ images: local.flatten(0, 1), options: { classOnly: true } });
    const { logits, encoded } = this.student.call(groups);
    const views = 2 + (local ? local.size(0) : 0);
    return { logits: logits.unflatten(0, [views, -1]), global: encoded[0]! };
  }

  /** L_ce over all pairs of different views. */
  loss(taught: Taught, studied: Studied): Tensor {
    return dinoLoss(studied.logits, taught.distribution, this.options.studentTemperature);
  }

  /** Teacher entropy, KL(teacher || student) and the deviation of L2-normalised features over the batch: what tells of collapse. */
  metrics(taught: Taught, studied: Studied, ce: Tensor): Record<string, Tensor> {
    return noGrad(() => {
      const teacherEntropy = meanEntropy(taught.distribution);
      const featureStd = normalize(studied.global.feature.detach().float()).std(0).mean();
      return { teacherEntropy, kl: ce.detach().sub(teacherEntropy), featureStd };
    });
  }

  /** In the first epochs the last layer has no gradient at all, not a zero one: the optimiser then applies no decay to it either. */
  beforeUpdate(at: Progress): void {
    if (at.epoch < this.options.freezeLastLayer) this.student.head.lastLayer.zeroGrad();
  }

  afterStep(at: Progress): void {
    const { momentum, centerMomentum } = this.options;
    const m = 1 - ((1 - momentum) * (1 + Math.cos((Math.PI * at.step) / at.totalSteps))) / 2;
    this.#ema.update(m);
    noGrad(() => {
      const share = (1 - centerMomentum) / Math.max(1, this.#pending.length);
      if (this.#pending.length > 0) this.center.mul_(centerMomentum);
      for (const mean of this.#pending) {
        this.center.add_(mean, { alpha: share });
        mean.dispose();
      }
      this.#pending = [];
    });
  }

  picture(batch: Batch): Picture[] {
    return frameworkPictures(this, batch);
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.student.backbone.loadWeights(weights);
    this.#ema.start();
  }

  state(): StateDict {
    return new Map([...this.student.stateDict("student"), ...this.teacher.stateDict("teacher"), ["center", this.center]]);
  }
}

/** tau_t in an epoch: linear over the warm-up epochs, then constant. */
export function teacherTemperature({ teacherTemperature: { from, to, epochs } }: DinoOptions, epoch: number): number {
  if (epoch >= epochs) return to;
  return epochs === 1 ? from : from + ((to - from) * epoch) / (epochs - 1);
}

export const dino = defineMethod({
  name: "dino",
  options: dinoOptions,
  backbones: ["vit", "swin"],
  create: (options, context) => new Dino(options, context),
});
