// RePre (Wang et al., IJCAI 2022): a contrastive framework, and beside it a branch that reconstructs the pixels of the view from several
// levels of the online encoder.
//
//   L = L_con + lambda L_rec
//   L_con   the framework's loss, as it is
//   L_rec   distance between the decoder's image and the view, over all pixels
//
// The paper's text settles the parallel branch, raw pixels as target and a light convolutional decoder that fuses features of several
// levels. Which levels, its layers, the distance, lambda and which views are reconstructed are options here, with our defaults:
// docs/methods/repre.md says which is which.
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import { denormalise } from "../data/index.js";
import { type Picture, reconstructionGrid } from "../draw/index.js";
import { type Encoded, type Encoder, FusionDecoder } from "../models/index.js";
import { Module, type StateDict, untracked } from "../nn/index.js";
import { cat, noGrad, type Tensor } from "../torch/index.js";
import { Dino, dinoOptions } from "./dino.js";
import { type Framework, globalCrops } from "./framework.js";
import { distanceOption, imageDistance } from "./image-distance.js";
import {
  defineMethod,
  type Method,
  type MethodContext,
  type MethodIssue,
  type Progress,
  type StepResult,
  type TrivialLevel,
} from "./method.js";
import { MocoV3, mocoV3, mocoV3Options } from "./moco-v3.js";

export const repreOptions = z
  .strictObject({
    /** The framework and all its options. */
    framework: z
      .discriminatedUnion("name", [
        z.strictObject({ name: z.literal("dino"), ...dinoOptions.unwrap().shape }),
        z.strictObject({ name: z.literal("moco-v3"), ...mocoV3Options.unwrap().shape }),
      ])
      .prefault({ name: "dino" }),
    /**
     * Levels that feed the decoder: so many at equal distances, the last among them, or these, counted from 0 (negative from the end).
     * 1 is the paper's control with the last level only.
     */
    levels: z.union([z.int().positive(), z.array(z.int()).min(1)]).default(4),
    /** How a level joins what has been decoded of the deeper ones. */
    fusion: z.enum(["concat", "sum"]).default("concat"),
    /** The way back to pixels (models/fusion-decoder.ts), the decoder's widest and narrowest stage, and whether its stages have batch norm. */
    decoderForm: z.enum(["deconvolution", "sub-pixel"]).default("deconvolution"),
    decoderWidth: z.int().positive().default(256),
    decoderNarrowest: z.int().positive().default(32),
    decoderBatchNorm: z.boolean().default(true),
    /** The distance of L_rec. */
    distance: distanceOption.default("l1"),
    /** Which views are reconstructed: both global crops, for which the online encoder's features are there anyway, or the first only. */
    reconstruct: z.enum(["global", "first"]).default("global"),
    lambda: z.number().min(0).default(1),
  })
  .prefault({});

export type RepreOptions = z.output<typeof repreOptions>;

/** The levels, from shallow to deep, counted from 0. @throws RangeError for one that does not exist */
export function levelsOf(levels: RepreOptions["levels"], depth: number): number[] {
  if (typeof levels === "number") {
    const count = Math.min(levels, depth);
    return Array.from({ length: count }, (_, i) => Math.ceil(((i + 1) * depth) / count) - 1);
  }
  const indices = levels.map((level) => (level < 0 ? level + depth : level));
  const wrong = indices.findIndex((index) => index < 0 || index >= depth);
  if (wrong >= 0) throw new RangeError(`level ${levels[wrong]} does not exist: the encoder has levels 0 to ${depth - 1}`);
  return [...new Set(indices)].sort((a, b) => a - b);
}

class RepreModules extends Module {
  framework: Module;
  decoder: FusionDecoder;

  constructor(framework: Module, decoder: FusionDecoder) {
    super();
    this.framework = framework;
    this.decoder = decoder;
  }

  forward(): never {
    throw new Error("internal: RepreModules only holds what is trained");
  }
}

export class Repre implements Method {
  readonly name = "repre";
  readonly framework: Framework;
  readonly trainable: RepreModules;
  /** The levels that feed the decoder, from shallow to deep. */
  readonly levels: readonly number[];

  constructor(
    readonly options: RepreOptions,
    context: MethodContext,
  ) {
    const { framework } = options;
    this.framework = framework.name === "dino" ? new Dino(framework, context) : new MocoV3(framework, context);
    const { online } = this.framework;
    this.levels = levelsOf(options.levels, online.depth);
    const decoder = new FusionDecoder({
      levels: this.levels.map((level) => online.levelShapes[level]!),
      channels: online.channels,
      fusion: options.fusion,
      form: options.decoderForm,
      width: options.decoderWidth,
      narrowest: options.decoderNarrowest,
      batchNorm: options.decoderBatchNorm,
    });
    this.trainable = new RepreModules(this.framework.trainable, decoder);
  }

  get views(): ViewPlan {
    return this.framework.views;
  }
  get encoder(): Encoder {
    return this.framework.encoder;
  }
  get branch(): string {
    return this.framework.branch;
  }
  get decayRule(): "all" | "no-bias-norm" {
    return this.framework.decayRule;
  }
  get trivialLevels(): readonly TrivialLevel[] {
    return this.framework.trivialLevels ?? [];
  }

  step(batch: Batch, at: Progress): StepResult {
    const { loss: con, terms, metrics, images, encoded } = this.framework.contrast(batch, at, { levels: this.levels });
    const count = this.options.reconstruct === "first" ? batch.views.global!.size(1) : images.size(0);
    const target = images.narrow(0, 0, count);
    const rec = this.distance(encoded, target);
    const result = { loss: con.add(rec.mul(this.options.lambda)), terms: { ...terms, rec } };
    return at.report ? { ...result, metrics: { ...metrics, recMixed: this.recMixed(encoded, target) } } : result;
  }

  /** L_rec over the first of what was encoded. */
  distance(encoded: Pick<Encoded, "levels">, target: Tensor): Tensor {
    return imageDistance(this.options.distance, this.decode(encoded, target), target);
  }

  /**
   * L_rec where each image's deepest level is another one's. Nothing is masked, so shallow levels would let the decoder copy: then this
   * is no more than `rec`, and the reconstruction teaches the deep blocks nothing.
   */
  recMixed({ levels }: Pick<Encoded, "levels">, target: Tensor): Tensor {
    return noGrad(() => {
      const shallow = levels.slice(0, -1);
      const deepest = levels.at(-1)!.narrow(0, 0, target.size(0));
      const other = cat([deepest.slice(0, 1), deepest.slice(0, 0, 1)]);
      return untracked(this.trainable.decoder, () => this.distance({ levels: [...shallow, other] }, target));
    });
  }

  /** The decoder's images for the first of what was encoded, like `images` [n, channels, H, W]. */
  decode({ levels }: Pick<Encoded, "levels">, images: Tensor): Tensor {
    const { prefix } = this.framework.online;
    const [count = 0, , height = 0, width = 0] = images.shape;
    const tokens = levels.map((level) => level.narrow(0, 0, count).slice(1, prefix));
    return this.trainable.decoder.call(tokens, [height, width]);
  }

  beforeUpdate(at: Progress): void {
    this.framework.beforeUpdate?.(at);
  }

  afterStep(at: Progress): void {
    this.framework.afterStep(at);
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.framework.initEncoder(weights);
  }

  /** Original and reconstruction of the first global crop of each image, and what the framework shows. */
  picture(batch: Batch): Picture[] {
    return noGrad(() => {
      const images = globalCrops(batch).narrow(0, 0, batch.views.global!.size(1));
      const encoded = this.framework.online.call(images, { levels: this.levels });
      const reconstruction = denormalise(this.decode(encoded, images).float(), this.views).clamp({ min: 0, max: 1 });
      const image = reconstructionGrid({ original: denormalise(images, this.views), direction: "across", reconstruction });
      return [{ name: "reconstruction", image }, ...(this.framework.picture?.(batch) ?? [])];
    });
  }

  state(): StateDict {
    return new Map([...this.framework.state(), ...this.trainable.decoder.stateDict("decoder")]);
  }
}

export const repre = defineMethod({
  name: "repre",
  options: repreOptions,
  backbones: ["vit", "swin"],
  // What the framework's paper has, the method on top of it has.
  defaults: ({ framework }) => (framework.name === "moco-v3" ? mocoV3.defaults!(framework) : {}),
  check: ({ framework, levels }, facts) => [
    ...(framework.name === "moco-v3" ? mocoV3.check!(framework, facts) : []).map(({ path, message }) => ({
      path: `framework.${path}`,
      message,
    })),
    ...checkLevels(levels, facts.depth),
  ],
  create: (options, context): Method => new Repre(options, context),
});

function checkLevels(levels: RepreOptions["levels"], depth: number): MethodIssue[] {
  try {
    levelsOf(levels, depth);
    return [];
  } catch (error) {
    return [{ path: "levels", message: `is ${JSON.stringify(levels)}: ${(error as Error).message}` }];
  }
}
