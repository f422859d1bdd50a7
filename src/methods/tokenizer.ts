// A tokenizer for methods that predict codes (CAE, BEiT): the discrete VAE of DALL-E (Ramesh et al., 2021, section 2.1 and appendix A).
//
//   q(z | x)   the encoder's distribution over V codes in each cell of the image; z ~ q relaxed by Gumbel-softmax at temperature tau
//   p(x | z)   the decoder's distribution of each pixel, logit-Laplace
//
//   L = -ln p(x | z) + beta / (s s C) KL(q || uniform) + gamma KL(mean q || uniform)
//
// The first term is a mean over pixels and channels, the second over cells of s x s pixels and C channels; its factor makes both a share of
// the image's ELBO, so that beta is the paper's. The third is ours, off by default: it looks at how the batch uses the codes as a whole.
import { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import { type Picture, reconstructionGrid } from "../draw/index.js";
import { Dvae, mapPixels, tokenizerTensors } from "../models/index.js";
import { buffer, type StateDict } from "../nn/index.js";
import { cosine, Ema } from "../optim/index.js";
import { bincount, noGrad, type Tensor, tensor, tidy, zeros } from "../torch/index.js";
import { gumbelNoise, klToUniform, logitLaplace, meanImageLoss, sampleCodes, usageKl } from "./dvae-loss.js";
import {
  defineMethod,
  type Method,
  type MethodContext,
  type Product,
  type Progress,
  type StepResult,
  type TrivialLevel,
} from "./method.js";
import { plainCropOptions, plainCropViews } from "./plain-crop.js";

/** Along half a cosine over so many optimiser steps, then constant. Without `steps`: over the whole run. */
const schedule = (value: z.ZodNumber, from: number, to: number) =>
  z.strictObject({ from: value.default(from), to: value.default(to), steps: z.int().positive().optional() }).prefault({});

/** Defaults are DALL-E's (appendix A.1, A.2), unless said. */
export const tokenizerOptions = z
  .strictObject({
    crops: plainCropOptions,
    /** Encoder: width of its first group; the decoder's of its last; groups of blocks, of which a code's side of 2^(groups - 1) px follows. */
    width: z.int().positive().multipleOf(4).default(256),
    decoderWidth: z.int().positive().multipleOf(4).default(256),
    groups: z.int().min(1).max(8).default(4),
    blocksPerGroup: z.int().positive().default(2),
    /** V, the number of codes, and the width at which they enter the decoder. */
    vocabulary: z.int().min(2).default(8192),
    decoderInit: z.int().positive().default(128),
    /** -ln p: by the logit-Laplace distribution, or the distance of its centre to the image in mapped values (BEiT's own tokenizer: l2). */
    reconstruction: z.enum(["logit-laplace", "l1", "l2"]).default("logit-laplace"),
    /** ln b is not taken to be below this. Ours: -3.5 is a step of one grey value in black or white, and what is finer is not in the data. */
    minLogScale: z.number().default(-3.5),
    /** tau. DALL-E: over the first 150,000 of 3 million steps. */
    temperature: schedule(z.number().positive(), 1, 1 / 16),
    /** Codes are one-hot on the way to the decoder; gradients are those of the relaxed ones. */
    straightThrough: z.boolean().default(false),
    /** beta. DALL-E: over the first 5,000 steps. */
    klWeight: schedule(z.number().min(0), 0, 6.6),
    /** gamma. Ours. */
    usageWeight: z.number().min(0).default(0),
    /** How much of the averaged weights, which are what is exported, stays at each step; 0 exports the weights themselves. */
    averaging: z.number().min(0).lt(1).default(0.999),
  })
  .refine(({ crops, groups }) => crops.globalSize % 2 ** (groups - 1) === 0, {
    path: ["crops", "globalSize"],
    error: "a multiple of 2^(groups - 1), the side of a code's cell",
  })
  .prefault({});

export type TokenizerOptions = z.output<typeof tokenizerOptions>;

export class TokenizerTraining implements Method {
  readonly name = "tokenizer";
  readonly encoder = null;
  readonly decayRule = "all";
  readonly views: ViewPlan;
  readonly trainable: Dvae;
  /** The moving average of the weights; the weights themselves where there is none. */
  readonly averaged: Dvae;
  /** How often each code was the most likely one since the last line of the log, [V]. */
  readonly uses: Tensor;
  readonly #ema: Ema | null;

  constructor(
    readonly options: TokenizerOptions,
    { data }: Pick<MethodContext, "data">,
  ) {
    const { crops, width, decoderWidth, groups, blocksPerGroup, vocabulary, decoderInit, averaging } = options;
    // A d-VAE wants values in 0..1, whatever the data's mean and deviation are.
    const { channels } = data;
    this.views = plainCropViews(crops, { channels, mean: Array(channels).fill(0), std: Array(channels).fill(1) });
    const config = { channels, width, decoderWidth, groups, blocksPerGroup, vocabulary, decoderInit };
    this.trainable = new Dvae(config);
    this.averaged = averaging > 0 ? new Dvae(config) : this.trainable;
    this.#ema = averaging > 0 ? new Ema(this.averaged, this.trainable).start() : null;
    this.uses = buffer(zeros([vocabulary]));
  }

  get product(): Product {
    return { name: "tokenizer", module: this.averaged, model: { name: "dvae", ...this.averaged.config } };
  }
  get branch(): string {
    return this.#ema ? "average" : "online";
  }
  get trivialLevels(): TrivialLevel[] {
    const value = Math.max(2, this.options.vocabulary / 100);
    const meaning = `collapse to few codes: less than ${value.toFixed(0)} of ${this.options.vocabulary} are in use`;
    return [{ term: "perplexity", value, below: true, meaning }];
  }

  step(batch: Batch, at: Progress): StepResult {
    const { straightThrough, klWeight, usageWeight } = this.options;
    const { encoder, decoder, stride, channels } = this.trainable;
    const mapped = mapPixels(batch.views.image!.flatten(0, 1));
    const logits = encoder.call(mapped);
    this.#count(logits);
    const tau = valueAt(this.options.temperature, at);
    const codes = sampleCodes(logits, this.noise(logits.shape), tau, straightThrough);
    const rec = this.reconstructionLoss(decoder!.call(codes), mapped);
    const beta = valueAt(klWeight, at);
    const terms: Record<string, Tensor> = { rec };
    let loss = rec;
    if (beta > 0 || at.report) {
      terms.kl = klToUniform(logits);
      loss = loss.add(terms.kl.mul(beta / (stride ** 2 * channels)));
    }
    if (usageWeight > 0) {
      terms.usage = usageKl(logits);
      loss = loss.add(terms.usage.mul(usageWeight));
    }
    return { loss, terms, ...(at.report && { metrics: { ...this.usage(), temperature: tensor(tau) } }) };
  }

  /** The randomness of a step; tests put their own in its place. */
  noise(shape: readonly number[]): Tensor {
    return gumbelNoise(shape);
  }

  reconstructionLoss(output: Tensor, mapped: Tensor): Tensor {
    const { reconstruction, minLogScale } = this.options;
    if (reconstruction === "logit-laplace") return logitLaplace(output, mapped, minLogScale);
    return meanImageLoss(output, mapped, reconstruction);
  }

  /** Notes the most likely code of every cell. */
  #count(logits: Tensor): void {
    noGrad(() =>
      tidy(() => {
        this.uses.add_(bincount(logits.argmax(1).flatten(), { minLength: this.options.vocabulary }).float());
      }),
    );
  }

  /** Of the codes since the last line of the log: how many, if all were used alike, would be as uncertain; and the share that occurred. */
  usage(): { perplexity: Tensor; usedCodes: Tensor } {
    return tidy(() =>
      noGrad(() => {
        const share = this.uses.div(this.uses.sum().clamp({ min: 1 }));
        const entropy = share
          .mul(share.clamp({ min: 1e-12 }).log())
          .sum()
          .neg();
        return { perplexity: entropy.exp(), usedCodes: this.uses.gt(0).float().mean() };
      }),
    );
  }

  afterStep(at: Progress): void {
    this.#ema?.update(this.options.averaging);
    if (at.report) noGrad(() => this.uses.zero_());
  }

  initEncoder(weights: ReadonlyMap<string, Tensor>): void {
    this.trainable.loadStateDict(tokenizerTensors(weights));
    this.#ema?.start();
  }

  /** Images, and what their codes keep of them. */
  picture(batch: Batch): Picture[] {
    const original = batch.views.image!.flatten(0, 1);
    const reconstruction = this.averaged.call(original);
    const headings = ["original", "", "by its codes"] as const;
    return [{ name: "reconstruction", image: reconstructionGrid({ original, reconstruction, headings, direction: "across" }) }];
  }

  state(): StateDict {
    const averaged = this.#ema ? this.averaged.stateDict("averaged") : [];
    return new Map([...this.trainable.stateDict(), ...averaged, ["uses", this.uses]]);
  }
}

function valueAt({ from, to, steps }: TokenizerOptions["temperature"], { step, totalSteps }: Progress): number {
  return cosine(from, to, step / (steps ?? totalSteps));
}

export const tokenizer = defineMethod({
  name: "tokenizer",
  options: tokenizerOptions,
  backbones: [],
  defaults: () => ({
    optimizer: { lr: 1e-4, lrScaling: "none", finalLr: 1.25e-6, warmupEpochs: 0, weightDecay: 1e-4, clip: { kind: "none" } },
  }),
  create: (options, context): Method => new TokenizerTraining(options, context),
});
