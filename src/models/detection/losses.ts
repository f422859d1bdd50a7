// The losses of detection, in float32 or more.
import { smoothL1Loss, type Tensor, tidy } from "../../torch/index.js";

/** How corrections of boxes are compared: smooth L1 that is quadratic below 1/9 (torchvision), or L1. */
export type BoxLoss = "smooth-l1" | "l1";

/** The sum over all numbers of all boxes. */
export function boxLoss(given: Tensor, expected: Tensor, kind: BoxLoss): Tensor {
  return tidy(() =>
    kind === "l1" ? given.sub(expected).abs().sum() : smoothL1Loss(given, expected, { reduction: "sum", beta: 1 / 9 }),
  );
}

/** Mean binary cross entropy of logits with targets from 0 to 1; 0 where there are none. */
export function binaryCrossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return tidy(() => {
    if (logits.numel === 0) return logits.sum();
    return logits.clamp({ min: 0 }).sub(logits.mul(targets)).add(logits.abs().neg().exp().log1p()).mean();
  });
}
