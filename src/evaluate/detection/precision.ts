// Average precision and recall of one category, from what was found in all images, surest first.

/** Recalls at which precision is read: 0, 0.01, ... 1. */
const recalls: readonly number[] = Array.from({ length: 101 }, (_, i) => (i === 100 ? 1 : i * 0.01));

export interface PrecisionRecall {
  /** The mean of the precisions at 101 recalls. */
  readonly precision: number;
  /** The share of true objects that was found. */
  readonly recall: number;
}

let precisions = new Float64Array(1024);

/**
 * @param order found objects, surest first @param matched and @param ignored a bit of each for the threshold, see `Verdicts`, at
 *   4 * object + area @param ranks place among those of its image: those from `most` on are left out @param truths how many there are to be
 *   found, at least 1
 */
export function precisionRecall(
  order: Uint32Array,
  { matched, ignored }: { readonly matched: Uint16Array; readonly ignored: Uint16Array },
  ranks: Uint16Array,
  { area, threshold, most, truths }: { area: number; threshold: number; most: number; truths: number },
): PrecisionRecall {
  if (precisions.length < order.length) precisions = new Float64Array(2 * order.length);
  const bit = 1 << threshold;
  let [right, wrong] = [0, 0];
  for (let i = 0; i < order.length; i++) {
    const object = order[i]!;
    const at = 4 * object + area;
    if (ranks[object]! >= most || ignored[at]! & bit) continue;
    if ((matched[at]! & bit) === 0) wrong++;
    else {
      right++;
      // Precision is highest where something right was found just now, so no other place matters.
      precisions[right - 1] = right / (wrong + right + Number.EPSILON);
    }
  }
  // At each recall the best precision that is reached there or later.
  for (let i = right - 2; i >= 0; i--) precisions[i] = Math.max(precisions[i]!, precisions[i + 1]!);
  let [sum, reached] = [0, 0];
  for (const recall of recalls) {
    while (reached < right && (reached + 1) / truths < recall) reached++;
    if (reached >= right) break;
    sum += precisions[reached]!;
  }
  return { precision: sum / recalls.length, recall: right / truths };
}
