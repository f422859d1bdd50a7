// Masks between the image and the grid in a box: what the mask head is to predict, and what its prediction means in pixels.
import { autocast, fromTypedArray, interpolate, type Tensor, tidy } from "../../torch/index.js";
import type { ImageSize } from "./boxes.js";
import { axisRegion, axisTaps, roundingOf } from "./roi-taps.js";

/**
 * Masks of objects on a grid over boxes: RoIAlign of each box's mask with as many samples as it has pixels (torchvision's
 * project_masks_on_boxes).
 *
 * @param masks [objects, height, width] row by row, 0 or 1
 * @param boxes four numbers a box
 * @param objects which mask belongs to each box
 * @returns float32 [boxes, size, size], 0 to 1
 */
export function projectMasks(
  masks: Uint8Array,
  [height, width]: ImageSize,
  boxes: Float32Array | Float64Array,
  objects: ArrayLike<number>,
  size: number,
): Float32Array {
  const round = roundingOf(boxes instanceof Float64Array ? "float64" : "float32");
  const out = new Float32Array(objects.length * size * size);
  const along = (low: number, high: number, length: number) =>
    axisTaps(axisRegion(low, high, 1, false, round), size, length, 0, round);
  for (let i = 0; i < objects.length; i++) {
    const [left, top, right, bottom] = boxes.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    const [rows, columns] = [along(top, bottom, height), along(left, right, width)];
    const start = objects[i]! * height * width;
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        let sum = 0;
        for (let r = rows.first[y]!; r < rows.first[y + 1]!; r++) {
          const row = start + rows.cells[r]! * width;
          let across = 0;
          for (let c = columns.first[x]!; c < columns.first[x + 1]!; c++) {
            if (masks[row + columns.cells[c]!] !== 0) across += columns.weights[c]!;
          }
          sum += rows.weights[r]! * across;
        }
        out[(i * size + y) * size + x] = sum;
      }
    }
  }
  return out;
}

/** A mask of 0 and 1 in the part of an image that its box covers. */
export interface PastedMask {
  top: number;
  left: number;
  /** [height, width] of the part; either may be 0. */
  size: ImageSize;
  /** Row by row. */
  values: Uint8Array;
}

/**
 * A predicted mask in pixels of the image (torchvision's paste_masks_in_image): the grid gets a border of zeros, so that masks end inside of it, is
 * resized bilinearly to the box in whole pixels, and cut at the image's edge.
 *
 * @param mask probabilities [size, size]
 * @param box left, top, right, bottom
 * @param threshold pixels above it are inside. Default 0.5
 */
export function pasteMask(mask: Tensor, box: ArrayLike<number>, [height, width]: ImageSize, threshold = 0.5): PastedMask {
  const size = mask.size(-1);
  const scale = (size + 2) / size;
  const [left, top, right, bottom] = wholeBox(box, scale);
  const [w, h] = [Math.max(right - left + 1, 1), Math.max(bottom - top + 1, 1)];
  const [x0, x1] = [Math.max(left, 0), Math.min(left + w, width)];
  const [y0, y1] = [Math.max(top, 0), Math.min(top + h, height)];
  if (x1 <= x0 || y1 <= y0)
    return { top: Math.min(y0, height), left: Math.min(x0, width), size: [0, 0], values: new Uint8Array(0) };
  const values = tidy(() =>
    autocast({ enabled: false }, () => {
      const padded = fromTypedArray(bordered(mask, size), [1, 1, size + 2, size + 2]);
      const resized = interpolate(padded, { size: [h, w], mode: "bilinear" })
        .select(0, 0)
        .select(0, 0);
      const seen = resized.narrow(0, y0 - top, y1 - y0).narrow(1, x0 - left, x1 - x0);
      return seen.gt(threshold).to("uint8").contiguous().data() as Uint8Array;
    }),
  );
  return { top: y0, left: x0, size: [y1 - y0, x1 - x0], values };
}

/** The box grown about its middle, in whole pixels towards 0; every step in float32. */
function wholeBox(box: ArrayLike<number>, scale: number): [number, number, number, number] {
  const f = Math.fround;
  const [left, top, right, bottom] = [f(box[0]!), f(box[1]!), f(box[2]!), f(box[3]!)];
  const half = (low: number, high: number) => f(f(f(high - low) * 0.5) * f(scale));
  const [w, h] = [half(left, right), half(top, bottom)];
  const [x, y] = [f(f(right + left) * 0.5), f(f(bottom + top) * 0.5)];
  return [Math.trunc(f(x - w)), Math.trunc(f(y - h)), Math.trunc(f(x + w)), Math.trunc(f(y + h))];
}

function bordered(mask: Tensor, size: number): Float32Array {
  const inner = tidy(() => mask.float().contiguous().data()) as Float32Array;
  const out = new Float32Array((size + 2) ** 2);
  for (let y = 0; y < size; y++) out.set(inner.subarray(y * size, (y + 1) * size), (y + 1) * (size + 2) + 1);
  return out;
}
