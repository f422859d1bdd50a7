// What a detector is to find in an image, made ready for matching.
import { fromTypedArray, type Tensor } from "../../torch/index.js";
import type { ImageSize } from "./boxes.js";

/** An image's objects, in pixels of the image as the network sees it; a batch of the detection loader has these. */
export interface DetectionTarget {
  /** [height, width] of the image inside the padding. */
  size: ImageSize;
  /** float32 [n, 4]: left, top, right, bottom. */
  boxes: Tensor;
  /** int64 [n], 0 to K - 1. */
  labels: Tensor;
  /** uint8 [n, h, w], 0 or 1; not needed by a detector without masks. */
  masks?: Tensor;
  /** bool [n]: regions with many objects. Default: none is. */
  crowd?: Tensor;
}

/** Objects that can be learnt, apart from crowds. */
export interface ReadyTarget {
  size: ImageSize;
  /** [m, 4] */
  boxes: Tensor;
  /** 1 to K; 0 is the background. */
  labels: Int32Array;
  /** [c, 4] */
  crowds: Tensor;
  /** The place of each object among the target's, by which its mask is found. */
  places: Int32Array;
  masks: Tensor | undefined;
}

/** Sorts crowds out, and drops boxes that have no area (an object may lose it when its image shrinks). */
export function readyTarget({ size, boxes, labels, masks, crowd }: DetectionTarget, dtype: "float32" | "float64"): ReadyTarget {
  const corners = boxes.data() as Float32Array;
  const flags = crowd?.data() as Uint8Array | undefined;
  const classes = labels.toArray();
  const usable = Array.from(classes.keys()).filter((i) => {
    const [left, top, right, bottom] = corners.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    return right > left && bottom > top;
  });
  const pick = (places: readonly number[]): Tensor => {
    const values = Float64Array.from(places.flatMap((i) => [...corners.subarray(4 * i, 4 * i + 4)]));
    return fromTypedArray(values, [places.length, 4], { device: boxes.device }).to(dtype);
  };
  const places = usable.filter((i) => !flags?.[i]);
  return {
    size,
    boxes: pick(places),
    labels: Int32Array.from(places, (i) => classes[i]! + 1),
    crowds: pick(usable.filter((i) => flags?.[i])),
    places: Int32Array.from(places),
    masks,
  };
}

/** Rows by number, as an index. */
export function indexOf(rows: ArrayLike<number>, device: Tensor["device"] = "cpu"): Tensor {
  return fromTypedArray(BigInt64Array.from(Array.from(rows), BigInt), [rows.length], { device });
}
