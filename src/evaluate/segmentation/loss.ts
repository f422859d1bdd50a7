// The loss of a segmenter: cross-entropy of every pixel that has a class, at the size of the labels.
import type { Segmented } from "../../models/index.js";
import { atLeastFloat32, crossEntropy, interpolate, type Tensor, tidy } from "../../torch/index.js";

/** The label of pixels that have no class: they teach nothing and do not count. */
export const IGNORE = 255;

export interface SegmentationLossOptions {
  /** Weight of the auxiliary head. Default 0.4. */
  auxiliaryWeight?: number | undefined;
  /**
   * Over which pixels the mean is taken: `labelled` (default), those that have a class; `all`, the others too, with a loss of 0, as
   * mmsegmentation did when the papers' numbers were made.
   */
  mean?: "labelled" | "all" | undefined;
}

/** Scores [B, K, h, w] against labels int64 [B, H, W]. An image without any labelled pixel has a loss of 0. */
export function pixelLoss(logits: Tensor, labels: Tensor, mean: "labelled" | "all" = "labelled"): Tensor {
  return tidy(() => {
    const [, height = 0, width = 0] = labels.shape;
    // With the classes of a pixel side by side in memory all of this is three times as fast.
    const sideBySide = atLeastFloat32(logits).permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    const scores = interpolate(sideBySide, { size: [height, width], mode: "bilinear" });
    const rows = scores.permute([0, 2, 3, 1]).reshape([-1, logits.size(1)]);
    const sum = crossEntropy(rows, labels.flatten(), { reduction: "sum", ignoreIndex: IGNORE });
    const count = mean === "all" ? labels.numel : Math.max(1, labels.ne(IGNORE).sum().item());
    return sum.div(count);
  });
}

/** The loss that is trained, and its terms. @param labels int64 [B, H, W], 255 where a pixel has no class */
export function segmentationLoss(
  { logits, auxiliary }: Segmented,
  labels: Tensor,
  { auxiliaryWeight = 0.4, mean = "labelled" }: SegmentationLossOptions = {},
): { loss: Tensor; terms: Record<string, Tensor> } {
  const decode = pixelLoss(logits, labels, mean);
  if (!auxiliary) return { loss: decode, terms: { decode } };
  const beside = pixelLoss(auxiliary, labels, mean);
  return { loss: decode.add(beside, { alpha: auxiliaryWeight }), terms: { decode, auxiliary: beside } };
}
