// What a method that adds a term to a contrastive framework needs of it, whichever it is: one contrastive step, and what the online
// encoder said on the way.
import type { Batch } from "../data/index.js";
import type { Encoded, EncodeOptions, Encoder } from "../models/index.js";
import type { Tensor } from "../torch/index.js";
import type { Method, Progress, StepResult } from "./method.js";

/** A contrastive step, and the online encoder's pass over the global crops that it made. */
export interface Contrasted extends StepResult {
  /** The global crops, [V B, channels, H, W], view by view. */
  images: Tensor;
  /** What the online encoder gives for them. */
  encoded: Encoded;
}

/** A method that learns by comparing views: DINO, MoCo v3. */
export interface Framework extends Method {
  readonly encoder: Encoder;
  /** The encoder that gradients train. */
  readonly online: Encoder;
  /** `step`, with what is wanted of the online encoder beside its feature: levels, or patches by `classOnly: false`. */
  contrast(batch: Batch, at: Progress, wanted?: EncodeOptions): Contrasted;
}

/** The global crops as one batch, [V B, channels, H, W]. */
export function globalCrops({ views }: Batch): Tensor {
  return views.global!.flatten(0, 1);
}
