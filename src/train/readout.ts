// Which part of an encoder's output stands for the image in an evaluation.
import type { Encoder } from "../models/index.js";
import { cat, type Tensor } from "../torch/index.js";

export const readouts = ["class", "mean", "class+mean"] as const;

/** The class token, the mean of the patches, or both side by side; all after the final norm. */
export type Readout = (typeof readouts)[number];

/** Images [B, C, H, W] to features [B, width] (twice the width for both). */
export function readoutOf(encoder: Encoder, readout: Readout): (images: Tensor) => Tensor {
  const all = readoutsOf(encoder, [readout]);
  return (images) => all(images)[readout]!;
}

/** Images [B, C, H, W] to several read-outs by name, of one pass through the encoder. */
export function readoutsOf(encoder: Encoder, names: readonly Readout[]): (images: Tensor) => Record<string, Tensor> {
  const classOnly = encoder.prefix === 1 && names.every((name) => name === "class");
  return (images) => {
    const { feature, patches } = encoder.call(images, { classOnly });
    const mean = patches ? patches.mean(1) : feature;
    const parts = { class: () => feature, mean: () => mean, "class+mean": () => cat([feature, mean], 1) };
    return Object.fromEntries(names.map((name) => [name, parts[name]()]));
  };
}
