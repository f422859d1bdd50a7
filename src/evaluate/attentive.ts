// Attentive probes: a learned query reads an encoder's frozen tokens, and a linear classifier what it brings back (CAE's protocol).
import { z } from "zod";
import type { Encoder } from "../models/index.js";
import type { Tensor } from "../torch/index.js";
import { AttentiveGrid } from "./attentive-grid.js";
import { normalisedTokens } from "./attentive-pool.js";
import { EvaluateError } from "./errors.js";
import { learnableClasses } from "./labels.js";
import { checkedBy, membersOf, type ProbePlan, probeOptions, withOptions } from "./probe-plan.js";
import { type ProbeRunResult, runProbe } from "./probe-run.js";
import type { ProbeImages } from "./probe-source.js";
import type { TrainingProgress } from "./probe-train.js";

export interface AttentivePlan extends ProbePlan {
  /** Heads of the query's attention. */
  readonly heads: number;
}

/** CAE's code: SGD with Nesterov's momentum, 0.4 for a batch of 8192, warm-up and cosine by steps. */
const cae: Omit<AttentivePlan, "heads" | "seed"> = {
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

/** What may be asked of an attentive probe. Learning rates are those of a batch of 8192. */
export const attentiveOptions = probeOptions.omit({ optimizer: true }).extend({
  /** Default 12, as CAE has it for a ViT-B, 16 for widths of 1024 and more; fewer where that does not divide the width. */
  heads: z.int().positive().optional(),
});

export type AttentiveOptions = z.input<typeof attentiveOptions>;

export function attentivePlan(options: AttentiveOptions, images: number, width: number): AttentivePlan {
  const { heads, ...rest } = checkedBy(attentiveOptions, options, "attentive probe");
  const chosen = heads ?? [width >= 1024 ? 16 : 12, 8, 6, 4, 3, 2, 1].find((count) => width % count === 0)!;
  if (width % chosen !== 0) {
    throw new EvaluateError(
      `The attentive probe has ${chosen} heads; expected a number that divides the encoder's width, ${width}.`,
    );
  }
  return withOptions({ ...cae, heads: chosen, seed: 0 }, rest, images);
}

export interface AttentiveProbeOptions extends ProbeImages {
  encoder: Encoder;
  /** Default: CAE's. */
  protocol?: AttentiveOptions;
  onProgress?: (progress: TrainingProgress) => void;
}

export interface AttentiveProbeResult extends ProbeRunResult<AttentivePlan> {
  /** Tokens of an image and their channels. */
  readonly tokens: number;
  readonly width: number;
}

/**
 * Attentive classification of images by a frozen encoder's tokens, after its final norm, class token included. They are kept as bfloat16.
 *
 * @throws EvaluateError for images without labels, and classes that do not fit
 */
export async function attentiveProbe(options: AttentiveProbeOptions): Promise<AttentiveProbeResult> {
  const { encoder, train, test, protocol = {} } = options;
  const classes = learnableClasses(train, test, "an attentive probe").length;
  const plan = attentivePlan(protocol, train.length, encoder.width);
  const { heads, seed } = plan;
  const fn = (images: Tensor) => normalisedTokens(encoder.call(images).tokens);
  const { shape, ...result } = await runProbe(
    options,
    { fn, stores: ["bfloat16"] },
    plan,
    () => new AttentiveGrid({ width: encoder.width, heads, classes, members: membersOf(plan).length, seed }),
  );
  return { ...result, tokens: shape[0]!, width: shape[1]! };
}
