// What classifiers are judged by: the place of the right class among the scores, and which class was said for which.
import { arange, bincount, fromTypedArray, type Tensor, tidy } from "../torch/index.js";

/**
 * How many classes come before the right one, from 0: int64 [N, ...]. Equal scores go to the lower class number; a score that is not a
 * number comes before everything but is never right.
 *
 * @param scores [N, ..., K] @param labels int64 [N]
 */
export function placesOf(scores: Tensor, labels: Tensor): Tensor {
  return tidy(() => {
    const [rows = 0, ...rest] = scores.shape;
    const classes = scores.size(-1);
    const own = labels.view([rows, ...rest.map(() => 1)]);
    const mine = scores.gather(-1, own.expand([...scores.shape.slice(0, -1), 1]));
    const higher = arange(0, classes, 1, { device: scores.device }).gt(own);
    const behind = scores.lt(mine).logicalOr(scores.eq(mine).logicalAnd(higher));
    return behind
      .to("int64")
      .sum(-1)
      .rsub(classes - 1);
  });
}

/** How often each class (row) was taken for each (column). */
export type Confusion = number[][];

/** @param labels and @param predicted class numbers below `classes`, one an image */
export function confusionOf(labels: Int32Array, predicted: Int32Array, classes: number): Confusion {
  const counts = tidy(() => {
    const pairs = fromTypedArray(Int32Array.from(labels, (label, i) => label * classes + predicted[i]!));
    return bincount(pairs.to("int64"), { minLength: classes * classes }).toArray();
  });
  return Array.from({ length: classes }, (_, row) => counts.slice(row * classes, (row + 1) * classes));
}
