// Attentive probes: a learned query reads an encoder's frozen tokens, and a linear classifier what it brings back (CAE's attentive probing).
import type { Encoder } from "../models/index.js";
import type { Tensor } from "../torch/index.js";
import { AttentiveGrid } from "./attentive-grid.js";
import { type AttentiveOptions, type AttentivePlan, attentivePlan } from "./attentive-plan.js";
import { normalisedTokens } from "./attentive-pool.js";
import { learnableClasses } from "./labels.js";
import { membersOf } from "./probe-plan.js";
import { type ProbeRunResult, runProbe } from "./probe-run.js";
import type { ProbeImages } from "./probe-source.js";
import type { TrainingProgress } from "./probe-train.js";

export interface AttentiveProbeOptions extends ProbeImages {
  encoder: Encoder;
  /** Default: ours. */
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
