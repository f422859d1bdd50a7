// Where detection batches become tensors.
import { type Device, fromTypedArray, type Tensor, tidy, zeros } from "../../torch/index.js";
import { scaleShift } from "../tensors.js";
import type { RawDetectionBatch } from "./loader.js";
import type { DetectionPlan } from "./plan.js";
import type { MaskSize } from "./rle.js";
import type { DetectionSampleBytes } from "./sample.js";

/** An image of a batch and its objects, in pixels of the image as it is in the batch. */
export interface DetectionSample {
  /** The image's number in the dataset. */
  readonly index: number;
  readonly imageId: number;
  /** [height, width] inside the padding. */
  readonly size: MaskSize;
  /** [height, width] of the file. What was cut out of it can not be told from this: see the plan. */
  readonly original: MaskSize;
  /** float32 [n, 4]: left, top, right, bottom. */
  readonly boxes: Tensor;
  /** int64 [n], 0 to K - 1. */
  readonly labels: Tensor;
  /** uint8 [n, h, w], 0 or 1; [0, h, w] where the plan makes no masks. */
  readonly masks: Tensor;
  /** bool [n]. */
  readonly crowd: Tensor;
}

export interface DetectionBatch {
  /** float32 [B, 3, H, W], normalised, 0 right of and below each image. */
  readonly images: Tensor;
  readonly samples: readonly DetectionSample[];
}

/**
 * A batch as tensors, in the caller's scope. The images are padded to the largest height and width of the batch (with jitter, to the plan's size)
 * and on to multiples of the plan's `divisor`.
 */
export function detectionTensors(raw: RawDetectionBatch, plan: DetectionPlan, { device = "cpu" as Device } = {}): DetectionBatch {
  return tidy(() => {
    const fixed = "size" in plan.resize ? plan.resize.size : ([1, 1] as const);
    const padded = ([0, 1] as const).map((axis) => {
      const most = Math.max(fixed[axis], ...raw.samples.map(({ size }) => size[axis]));
      return Math.ceil(most / plan.divisor) * plan.divisor;
    });
    const images = zeros([raw.samples.length, 3, ...padded], { device });
    const scale = plan.std.map((std) => 1 / (255 * std));
    const shift = plan.std.map((std, c) => -plan.mean[c]! / std);
    for (const [b, { pixels, size }] of raw.samples.entries()) {
      tidy(() => {
        const image = fromTypedArray(pixels, [3, ...size], { device }).to("float32");
        scaleShift(image, scale, shift);
        images.select(0, b).narrow(1, 0, size[0]).narrow(2, 0, size[1]).copy_(image);
      });
    }
    return { images, samples: raw.samples.map((sample) => sampleTensors(sample, device)) };
  });
}

function sampleTensors(sample: DetectionSampleBytes, device: Device): DetectionSample {
  const { index, imageId, size, original } = sample;
  const count = sample.labels.length;
  return {
    index,
    imageId,
    size,
    original,
    boxes: fromTypedArray(sample.boxes, [count, 4], { device }),
    labels: fromTypedArray(sample.labels, [count], { device }).to("int64"),
    masks: fromTypedArray(sample.masks, [sample.masks.length / (size[0] * size[1]), ...size], { device }),
    crowd: fromTypedArray(sample.crowd, [count], { dtype: "bool", device }),
  };
}
