// What a segmentation is judged by: how often pixels of a class were taken for another, and from that mean IoU and accuracies.
import { bincount, type Tensor, tidy } from "../../torch/index.js";
import { EvaluateError } from "../errors.js";
import type { Confusion } from "../scores.js";
import { IGNORE } from "./loss.js";

export interface ClassScore {
  readonly name: string;
  /** Pixels in both over pixels in either; null for a class that neither the truth nor a prediction has. */
  readonly iou: number | null;
  /** Share of its pixels that were found; null where there are none. */
  readonly accuracy: number | null;
  /** Pixels of the truth. */
  readonly pixels: number;
}

/** Shares from 0 to 1. Pixels without a class do not count. */
export interface SegmentationScores {
  /** Mean of the classes' IoU. */
  readonly mIoU: number;
  /** Share of all pixels that have the right class. */
  readonly pixelAccuracy: number;
  /** Mean of the classes' accuracy. */
  readonly meanAccuracy: number;
  readonly classes: readonly ClassScore[];
}

/** Counts pixels of several images. */
export class PixelConfusion {
  readonly #counts: Float64Array;

  constructor(readonly classes: number) {
    this.#counts = new Float64Array(classes * classes);
  }

  /** @param truth int64, 255 for pixels without a class @param predicted int64 of the same shape */
  add(truth: Tensor, predicted: Tensor): void {
    if (truth.shape.join() !== predicted.shape.join()) {
      throw new EvaluateError(`internal: labels [${truth.shape}] and predictions [${predicted.shape}] differ in shape`);
    }
    const { classes } = this;
    const counts = tidy(() => {
      const pairs = truth
        .mul(classes)
        .add(predicted)
        .maskedFill(truth.eq(IGNORE), classes * classes);
      return bincount(pairs.flatten(), { minLength: classes * classes + 1 }).toArray();
    });
    for (let i = 0; i < this.#counts.length; i++) this.#counts[i]! += counts[i]!;
  }

  /** How often each class (row) was taken for each (column). */
  get counts(): Confusion {
    const { classes } = this;
    return Array.from({ length: classes }, (_, row) => [...this.#counts.subarray(row * classes, (row + 1) * classes)]);
  }
}

const meanOf = (values: readonly (number | null)[]): number => {
  const there = values.filter((value) => value !== null);
  return there.reduce((sum, value) => sum + value, 0) / there.length;
};

/** @throws EvaluateError where no pixel has a class */
export function segmentationScores(confusion: Confusion, names: readonly string[]): SegmentationScores {
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const classes = names.map((name, i): ClassScore => {
    const right = confusion[i]![i]!;
    const pixels = sum(confusion[i]!);
    const either = pixels + sum(confusion.map((row) => row[i]!)) - right;
    return { name, iou: either > 0 ? right / either : null, accuracy: pixels > 0 ? right / pixels : null, pixels };
  });
  const pixels = sum(classes.map((each) => each.pixels));
  if (pixels === 0)
    throw new EvaluateError("No pixel of the test images has a class, so there is nothing to measure; check the masks.");
  return {
    mIoU: meanOf(classes.map(({ iou }) => iou)),
    pixelAccuracy: sum(names.map((_, i) => confusion[i]![i]!)) / pixels,
    meanAccuracy: meanOf(classes.map(({ accuracy }) => accuracy)),
    classes,
  };
}
