// How much boxes and masks overlap, in COCO's sense: intersection over union; where the truth is a crowd, over the area of what was found, so
// that anything that lies inside a crowd overlaps it fully.

import { DataError } from "../errors.js";
import { maskArea, maskBox, type Rle, sharedArea } from "./rle.js";

/** One byte or boolean a truth. */
export type CrowdFlags = ArrayLike<number | boolean>;

/**
 * Overlaps of boxes, row by row: [found * truths].
 *
 * @param found and @param truths x, y, width and height of box i from 4 * i on
 */
export function boxOverlaps(found: ArrayLike<number>, truths: ArrayLike<number>, crowd: CrowdFlags): Float64Array {
  const [rows, columns] = [found.length >> 2, truths.length >> 2];
  const overlaps = new Float64Array(rows * columns);
  for (let d = 0; d < rows; d++) {
    const [x, y, w, h] = [found[4 * d]!, found[4 * d + 1]!, found[4 * d + 2]!, found[4 * d + 3]!];
    for (let g = 0; g < columns; g++) {
      const [gx, gy, gw, gh] = [truths[4 * g]!, truths[4 * g + 1]!, truths[4 * g + 2]!, truths[4 * g + 3]!];
      const width = Math.min(x + w, gx + gw) - Math.max(x, gx);
      if (width <= 0) continue;
      const height = Math.min(y + h, gy + gh) - Math.max(y, gy);
      if (height <= 0) continue;
      const shared = width * height;
      overlaps[d * columns + g] = shared / (crowd[g] ? w * h : w * h + gw * gh - shared);
    }
  }
  return overlaps;
}

/** Overlaps of masks of one image, row by row: [found * truths]. */
export function maskOverlaps(found: readonly Rle[], truths: readonly Rle[], crowd: CrowdFlags): Float64Array {
  const size = (found[0] ?? truths[0])?.size;
  for (const { size: own } of [...found, ...truths]) {
    if (own[0] !== size![0] || own[1] !== size![1]) {
      throw new DataError(`Masks of ${size!.join(" x ")} and ${own.join(" x ")} pixels cannot be compared; expected one size.`);
    }
  }
  const overlaps = new Float64Array(found.length * truths.length);
  const boxes = truths.map(maskBox);
  const areas = truths.map(maskArea);
  for (const [d, mask] of found.entries()) {
    const [x, y, w, h] = maskBox(mask);
    const area = maskArea(mask);
    for (const [g, truth] of truths.entries()) {
      const [gx, gy, gw, gh] = boxes[g]!;
      // Most pairs lie apart: their runs need not be compared.
      if (x >= gx + gw || gx >= x + w || y >= gy + gh || gy >= y + h) continue;
      const shared = sharedArea(mask, truth);
      if (shared > 0) overlaps[d * truths.length + g] = shared / (crowd[g] ? area : area + areas[g]! - shared);
    }
  }
  return overlaps;
}
