// Protocols of attentive classification on frozen tokens.
import { z } from "zod";
import { EvaluateError } from "./errors.js";
import { checkedBy, type ProbePlan, probeOptions, withOptions } from "./probe-plan.js";

export interface AttentivePlan extends ProbePlan {
  /** Whose protocol it is. */
  readonly preset: AttentivePreset;
  /** Heads of the query's attention. */
  readonly heads: number;
}

export const attentivePresets = ["grid", "cae"] as const;
export type AttentivePreset = (typeof attentivePresets)[number];

type Protocol = Omit<AttentivePlan, "preset" | "heads" | "seed">;

/** CAE's code: SGD with Nesterov's momentum, 0.4 for a batch of 8192, warm-up and cosine by steps. */
const cae: Protocol = {
  epochs: 90,
  batchSize: 8192,
  lr: [0.4],
  lrBatch: 8192,
  weightDecay: [0],
  optimizer: "sgd",
  momentum: 0.9,
  nesterov: true,
  warmupEpochs: 10,
  finalLr: 1e-6,
  per: "step",
  report: "best-epoch",
  evaluateEvery: 1,
  crop: { scale: [0.08, 1], interpolation: "bicubic" },
};

const protocols: Readonly<Record<AttentivePreset, Protocol>> = {
  /** Ours: a short training in small batches, for thousands of images rather than a million, with learning rates around CAE's. */
  grid: {
    ...cae,
    epochs: 20,
    batchSize: 256,
    lr: [0.1, 0.4, 1.6, 6.4],
    warmupEpochs: 0,
    finalLr: 0,
    report: "last",
    evaluateEvery: 0,
  },
  cae,
};

/** What may be asked of an attentive probe. Learning rates are those of a batch of 8192. */
export const attentiveOptions = probeOptions.omit({ optimizer: true }).extend({
  /** Whose protocol; default `grid`, ours. */
  preset: z.enum(attentivePresets).optional(),
  /** Default 12, as CAE has it for a ViT-B, 16 for widths of 1024 and more; fewer where that does not divide the width. */
  heads: z.int().positive().optional(),
});

export type AttentiveOptions = z.input<typeof attentiveOptions>;

/**
 * The protocol with changes, for so many training images and tokens of so many channels.
 *
 * @throws EvaluateError for what does not fit
 */
export function attentivePlan(options: AttentiveOptions, images: number, width: number): AttentivePlan {
  const { preset = "grid", heads, ...rest } = checkedBy(attentiveOptions, options, "attentive probe");
  const chosen = heads ?? [width >= 1024 ? 16 : 12, 8, 6, 4, 3, 2, 1].find((count) => width % count === 0)!;
  if (width % chosen !== 0) {
    throw new EvaluateError(
      `The attentive probe has ${chosen} heads; expected a number that divides the encoder's width, ${width}.`,
    );
  }
  return withOptions({ ...protocols[preset], preset, heads: chosen, seed: 0 }, rest, images);
}
