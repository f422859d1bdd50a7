// Which part of an encoder's output stands for the image in an evaluation.
import type { Encoder } from "../models/index.js";
import { cat, type Tensor } from "../torch/index.js";

/** The class token, the mean of the patches, or both side by side; all after the final norm. */
export type Readout = "class" | "mean" | "class+mean";

/** Images [B, C, H, W] to features [B, width] (twice the width for both). */
export function readoutOf(encoder: Encoder, readout: Readout): (images: Tensor) => Tensor {
  return (images) => {
    const { feature, patches } = encoder.call(images, readout === "class" ? { classOnly: encoder.prefix === 1 } : {});
    if (readout === "class" || !patches) return feature;
    const mean = patches.mean(1);
    return readout === "mean" ? mean : cat([feature, mean], 1);
  };
}
