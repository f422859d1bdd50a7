// Protocols of linear classification on frozen features, as the papers and their code have them. Their numbers do not compare with each other:
// they read different things off the encoder.
import { z } from "zod";
import type { Encoder } from "../models/index.js";
import { EvaluateError } from "./errors.js";
import { checkedBy, type ProbePlan, probeOptions, withOptions } from "./probe-plan.js";
import { isReadout, type Readable, type Readout, readoutForms, readoutProblem } from "./readout.js";

export interface LinearPlan extends ProbePlan {
  /** Whose protocol it is. */
  readonly preset: LinearPreset;
  readonly readout: Readout;
  /** Normalise features over the batch, without learned scale and shift. */
  readonly batchNorm: { readonly eps: number } | null;
}

export const linearPresets = ["grid", "dino", "moco-v3", "mae", "cae"] as const;
export type LinearPreset = (typeof linearPresets)[number];

type Protocol = Omit<LinearPlan, "preset" | "readout" | "seed">;

const sgd = {
  lrBatch: 256,
  weightDecay: [0],
  optimizer: "sgd",
  momentum: 0.9,
  nesterov: false,
  warmupEpochs: 0,
  finalLr: 0,
  evaluateEvery: 1,
  crop: { scale: [0.08, 1], interpolation: "bilinear" },
} as const;

/** DINO's code, eval_linear.py: no BatchNorm, SGD, 0.001 for a batch of 256, cosine by epochs, best epoch reported. */
const dino: Protocol = {
  ...sgd,
  epochs: 100,
  batchSize: 1024,
  lr: [0.001],
  per: "epoch",
  batchNorm: null,
  report: "best-epoch",
};

/** MAE's code, main_linprobe.py: BatchNorm, LARS, 0.1 for a batch of 256, warm-up and cosine by steps, best epoch reported. */
const mae: Protocol = {
  ...sgd,
  optimizer: "lars",
  epochs: 90,
  batchSize: 16_384,
  lr: [0.1],
  warmupEpochs: 10,
  per: "step",
  batchNorm: { eps: 1e-6 },
  report: "best-epoch",
  crop: { scale: [0.08, 1], interpolation: "bicubic" },
};

const protocols: Readonly<Record<LinearPreset, Protocol>> = {
  /** Ours: normalised features and learning rates over four orders of magnitude, so that no encoder is judged by a rate that suits another. */
  grid: {
    ...sgd,
    epochs: 90,
    batchSize: 1024,
    lr: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
    per: "step",
    batchNorm: { eps: 1e-6 },
    report: "last",
    evaluateEvery: 0,
  },
  dino,
  /** MoCo v3's code, main_lincls.py: as DINO's with 3 for a batch of 256 (ViT), 90 epochs. */
  "moco-v3": { ...dino, epochs: 90, lr: [3] },
  mae,
  /** CAE's code: MAE's protocol. */
  cae: mae,
};

/** What may be asked of a linear probe. */
export const linearOptions = probeOptions.extend({
  /** Whose protocol; default `grid`, ours. */
  preset: z.enum(linearPresets).optional(),
  /** Default: the protocol's. */
  readout: z.custom<Readout>((value) => typeof value === "string" && isReadout(value), readoutForms).optional(),
  /** Default: the protocol's. */
  batchNorm: z.boolean().optional(),
});

export type LinearOptions = z.input<typeof linearOptions>;

/** What a protocol reads off an encoder. DINO: the last four class tokens of a ViT-S, class token and mean of the patches of a ViT-B. */
export function defaultReadout(preset: LinearPreset, encoder: Readable & Pick<Encoder, "width">): Readout {
  if (preset === "dino") return encoder.width >= 768 ? "class+mean" : `class:${Math.min(4, encoder.depth)}`;
  return preset === "grid" && encoder.prefix === 0 ? "mean" : "class";
}

/**
 * The protocol with changes, for so many training images.
 *
 * @param source the encoder, or the name of features that come from elsewhere
 *
 * @throws EvaluateError for what does not fit
 */
export function linearPlan(
  options: LinearOptions,
  images: number,
  source: (Readable & Pick<Encoder, "width">) | string,
): LinearPlan {
  const { preset = "grid", readout, batchNorm, ...rest } = checkedBy(linearOptions, options, "linear probe");
  const chosen = readout ?? (typeof source === "string" ? source : defaultReadout(preset, source));
  const problem = typeof source === "string" ? undefined : readoutProblem(chosen, source);
  if (problem) {
    const whose = readout === undefined ? `The protocol "${preset}" reads ${chosen}` : `The read-out is ${chosen}`;
    throw new EvaluateError(`${whose}, but ${problem}.`);
  }
  const protocol = protocols[preset];
  const norm = batchNorm === undefined ? protocol.batchNorm : batchNorm ? { eps: 1e-6 } : null;
  return withOptions({ ...protocol, preset, readout: chosen, batchNorm: norm, seed: 0 }, rest, images);
}
