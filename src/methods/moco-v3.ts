// MoCo v3 (Chen, Xie and He, 2021): the representation of one view finds that of the other among those of the batch.
//
//   f_q   online encoder, projector and predictor      q_1, q_2: its outputs for the two views
//   f_m   momentum encoder and projector               k_1, k_2: its outputs; theta_m <- m theta_m + (1 - m) theta_q before they are made
//   tau   temperature
//
//   L = ctr(q_1, k_2) + ctr(q_2, k_1)                  (algorithm 1; ctr is in info-nce.ts)
//
// The patch projection stays at its random start (section 4.2, "stability"). With fixed positions, its tokens are then the same in both
// encoders, so they are made once.
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import type { Picture } from "../draw/index.js";
import { type Encoded, type EncodeOptions, type Encoder, MocoHead, VisionTransformer } from "../models/index.js";
import { Module, type StateDict } from "../nn/index.js";
import { Ema } from "../optim/index.js";
import { arange, noGrad, normalize, type Tensor } from "../torch/index.js";
import { type Contrasted, type Framework, globalCrops } from "./framework.js";
import { frameworkPictures } from "./framework-pictures.js";
import { infoNce } from "./info-nce.js";
import { defineMethod, type MethodContext, type Progress, type StepResult, type TrivialLevel } from "./method.js";
import { twoCropOptions, twoCropViews } from "./multi-crop.js";

/** Defaults are the reference code's for ViTs, unless said. */
export const mocoV3Options = z
  .strictObject({
    crops: twoCropOptions,
    /** Hidden width of projector and predictor, and the width of what is compared. */
    hidden: z.int().positive().default(4096),
    outFeatures: z.int().positive().default(256),
    /** Linear layers of the two heads. */
    projectorLayers: z.int().min(1).default(3),
    predictorLayers: z.int().min(1).default(2),
    /** tau. ResNets have 1. */
    temperature: z.number().positive().default(0.2),
    /** m: along a cosine from this value to 1. */
    momentum: z.number().min(0).max(1).default(0.99),
    /** `constant` keeps m. */
    momentumSchedule: z.enum(["cosine", "constant"]).default("cosine"),
    /** Leave the patch projection as it was initialised. */
    freezePatchProjection: z.boolean().default(true),
  })
  .prefault({});

export type MocoV3Options = z.output<typeof mocoV3Options>;

/** Encoder and projector. State-dict names: `backbone.*`, `head.*`. */
export class MocoNetwork extends Module {
  backbone: Encoder;
  head: MocoHead;

  constructor(backbone: Encoder, { hidden, outFeatures, projectorLayers }: MocoV3Options) {
    super();
    this.backbone = backbone;
    this.head = new MocoHead({ inFeatures: backbone.width, hidden, outFeatures, layers: projectorLayers });
  }

  /** Both views in one pass of the encoder, but one at a time through the head: batch statistics belong to a view. [B, D] each. */
  forward(images: Tensor, options: EncodeOptions): { projected: [Tensor, Tensor]; encoded: Encoded } {
    const encoded = this.backbone.call(images, options);
    const [first, second] = encoded.feature.chunk(2, 0) as [Tensor, Tensor];
    return { projected: [this.head.call(first), this.head.call(second)], encoded };
  }
}

class MocoModules extends Module {
  online: MocoNetwork;
  predictor: MocoHead;

  constructor(online: MocoNetwork, { hidden, outFeatures, predictorLayers }: MocoV3Options) {
    super();
    this.online = online;
    this.predictor = new MocoHead({ inFeatures: outFeatures, hidden, outFeatures, layers: predictorLayers });
  }

  forward(): never {
    throw new Error("internal: MocoModules only holds what is trained");
  }
}

export class MocoV3 implements Framework {
  readonly name: string = "moco-v3";
  readonly branch = "online";
  /** The reference gives the optimiser everything, biases and norms too. */
  readonly decayRule = "all";
  readonly views: ViewPlan;
  readonly trainable: MocoModules;
  readonly momentum: MocoNetwork;
  readonly #ema: Ema;
  readonly #batchSize: number;

  constructor(
    readonly options: MocoV3Options,
    context: MethodContext,
  ) {
    this.views = twoCropViews(options.crops, context.data);
    this.#batchSize = context.batchSize;
    const online = new MocoNetwork(context.encoder(), options);
    this.trainable = new MocoModules(online, options);
    this.momentum = new MocoNetwork(context.encoder({ dropPath: false }), options);
    if (options.freezePatchProjection) online.backbone.patchEmbed.proj.requiresGrad_(false);
    this.#ema = new Ema(this.momentum, online).start();
  }

  get online(): Encoder {
    return this.trainable.online.backbone;
  }
  get encoder(): Encoder {
    return this.online;
  }
  get trivialLevels(): TrivialLevel[] {
    const value = 2 * 2 * this.options.temperature * Math.log(this.#batchSize);
    return [{ term: "ctr", value, meaning: `collapse to uniform: the loss is 2 * 2 tau ln B = ${value.toFixed(4)}` }];
  }

  step(batch: Batch, at: Progress): StepResult {
    const { loss, terms, metrics } = this.contrast(batch, at);
    return { loss, terms, ...(metrics ? { metrics } : {}) };
  }

  contrast(batch: Batch, at: Progress, wanted?: EncodeOptions): Contrasted {
    const { online, predictor } = this.trainable;
    const images = globalCrops(batch);
    const embedded = this.#embed(images);
    // First the keys: what their forward pass needs for a while is gone before the queries' graph is there.
    const [k1, k2] = this.keys(images, embedded);
    const { projected, encoded } = online.call(images, { classOnly: true, ...wanted, embedded });
    const [q1, q2] = projected.map((each) => predictor.call(each)) as [Tensor, Tensor];
    const first = infoNce(q1, k2, this.options.temperature);
    const second = infoNce(q2, k1, this.options.temperature);
    const ctr = first.loss.add(second.loss);
    const metrics = at.report ? { metrics: this.metrics(encoded, first.logits, second.logits) } : {};
    return { loss: ctr, terms: { ctr }, ...metrics, images, encoded };
  }

  /** k_1 and k_2, [B, D] each. */
  keys(images: Tensor, embedded?: Tensor): [Tensor, Tensor] {
    return noGrad(() => this.momentum.call(images, { classOnly: true, embedded }).projected);
  }

  /** m at a step. */
  momentumAt({ step, totalSteps }: Pick<Progress, "step" | "totalSteps">): number {
    const { momentum, momentumSchedule } = this.options;
    if (momentumSchedule === "constant") return momentum;
    return 1 - ((1 - momentum) * (1 + Math.cos((Math.PI * step) / totalSteps))) / 2;
  }

  /** Patch tokens that are the same in both encoders; undefined where they are not. */
  #embed(images: Tensor): Tensor | undefined {
    const { online } = this;
    const shared =
      this.options.freezePatchProjection && online instanceof VisionTransformer && online.config.positions === "sin-cos";
    return shared ? noGrad(() => online.embedPatches(images)) : undefined;
  }

  /** How often a query's own key is the nearest, and the deviation of L2-normalised features over the batch. */
  metrics({ feature }: Encoded, ...logits: Tensor[]): Record<string, Tensor> {
    return noGrad(() => {
      const hits = logits.map((each) => each.argmax(1).eq(arange(0, each.size(0), 1, { dtype: "int64", device: each.device })));
      const accuracy = hits.map((each) => each.float().mean()).reduce((a, b) => a.add(b));
      return { accuracy: accuracy.div(logits.length), featureStd: normalize(feature.detach().float()).std(0).mean() };
    });
  }

  /**
   * Algorithm 1 moves the momentum encoder before a step's keys are made, with the weights that the optimiser left and that step's m. That is
   * here, one step ahead: so accumulated batches have keys of one encoder, and a forward pass changes no weight and can be replayed.
   */
  afterStep({ step, totalSteps }: Progress): void {
    this.#ema.update(this.momentumAt({ step: step + 1, totalSteps }));
  }

  picture(batch: Batch): Picture[] {
    return frameworkPictures(this, batch);
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.online.loadWeights(weights);
    this.#ema.start();
  }

  state(): StateDict {
    return new Map([...this.trainable.stateDict(), ...this.momentum.stateDict("momentum")]);
  }
}

export const mocoV3 = defineMethod({
  name: "moco-v3",
  options: mocoV3Options,
  backbones: ["vit", "swin"],
  defaults: () => ({
    model: { vit: { positions: "sin-cos", init: "moco-v3" } },
    optimizer: { lr: 1.5e-4, weightDecay: 0.1, finalLr: 0, clip: { kind: "none" } },
  }),
  check: (_, { batchSize }) =>
    batchSize > 1
      ? []
      : [{ path: "name", message: 'is "moco-v3", which compares the images of a batch; expected train.batchSize of at least 2' }],
  create: (options, context) => new MocoV3(options, context),
});
