// Where bytes become tensors: with coco/tensors.ts the only file of src/data that knows the engine. Bytes are copied into libtorch once, widened to float32 and
// normalised in place by one fused scale-and-shift a channel.
import { type Device, fromTypedArray, op, type Tensor, tidy } from "../torch/index.js";
import { DataError } from "./errors.js";
import type { RawBatch, RawView } from "./loader.js";
import type { Size } from "./transforms.js";
import type { ViewPlan } from "./views.js";

/** What normalisation needs of a view plan. */
export type PixelScale = Pick<ViewPlan, "channels" | "mean" | "std">;

/** A batch as a method sees it: each view group float32 [count, B, C, H, W], normalised; the sample and label of each row. */
export interface Batch {
  readonly views: Readonly<Record<string, Tensor>>;
  readonly index: Int32Array;
  /** -1 for a sample without a label. Absent where the dataset has none. */
  readonly labels?: Int32Array;
}

export interface ToTensorsOptions {
  /** Where the tensors go. Default cpu. */
  device?: Device;
}

/** shift + alpha * x in one pass, written where `out` is. */
const addOut = op("add.out");

function checkScale({ channels, mean, std }: PixelScale): void {
  if (mean.length !== channels || std.length !== channels) {
    throw new DataError(
      `Normalisation has ${mean.length} means and ${std.length} standard deviations for ${channels} channels; expected one of each a channel.`,
    );
  }
  const bad = std.findIndex((value) => !(value > 0));
  if (bad >= 0) throw new DataError(`The standard deviation of channel ${bad} is ${std[bad]}; expected a number above 0.`);
}

/** images <- scale * images + shift, channel by channel. `images` is contiguous [..., C, H, W] and its own memory. */
export function scaleShift(images: Tensor, scale: readonly number[], shift: readonly number[]): void {
  const [height, width] = images.shape.slice(-2) as [number, number];
  const planes = images.view([-1, scale.length, height * width]);
  const same = scale.every((each, c) => each === scale[0] && shift[c] === shift[0]);
  const parts = same ? [planes] : scale.map((_, c) => planes.select(1, c));
  for (const [c, part] of parts.entries()) {
    const offset = fromTypedArray(Float32Array.of(shift[c]!), [], { device: images.device });
    addOut(offset, part, scale[c], part);
  }
}

function viewTensor(view: RawView, plan: PixelScale, device: Device): Tensor {
  return tidy(() => {
    const images = fromTypedArray(view.data, view.shape, { device }).to("float32");
    normalise(images, plan);
    return images;
  });
}

/** Bytes as float32 <- (byte / 255 - mean) / std, in place. */
function normalise(images: Tensor, { mean, std }: PixelScale): void {
  const scale = std.map((each) => 1 / (255 * each));
  scaleShift(
    images,
    scale,
    std.map((each, c) => -mean[c]! / each),
  );
}

/**
 * A batch of bytes as normalised float32 tensors, (byte / 255 - mean) / std, in the caller's scope. The loader's slot is released.
 *
 * @param plan the plan the loader was made with, for its mean and std
 */
export function toTensors(raw: RawBatch, plan: PixelScale, { device = "cpu" }: ToTensorsOptions = {}): Batch {
  try {
    checkScale(plan);
    const views: Record<string, Tensor> = {};
    for (const [name, view] of Object.entries(raw.views)) {
      if (view.shape[2] !== plan.channels) {
        throw new DataError(
          `View "${name}" has ${view.shape[2]} channels, the plan ${plan.channels}; use the plan of the loader.`,
        );
      }
      views[name] = viewTensor(view, plan, device);
    }
    return { views, index: raw.index, ...(raw.labels && { labels: raw.labels }) };
  } finally {
    raw.release();
  }
}

/** Images and the classes of their pixels: float32 [B, C, H, W], normalised, and int64 [B, H, W], 255 where a pixel has none. */
export interface PixelBatch {
  readonly images: Tensor;
  readonly labels: Tensor;
  readonly index: Int32Array;
}

/** A batch of a segmentation plan as tensors, in the caller's scope. The loader's slot is released. */
export function toPixelTensors(raw: RawBatch, plan: PixelScale, { device = "cpu" }: ToTensorsOptions = {}): PixelBatch {
  try {
    checkScale(plan);
    const { image, labels } = raw.views;
    if (!image || !labels) throw new DataError("The batch has no image and labels; give the loader a segmentation plan.");
    const [, batch, , height, width] = labels.shape;
    return {
      images: tidy(() => viewTensor(image, plan, device).select(0, 0)),
      labels: tidy(() => fromTypedArray(labels.data, [batch, height, width], { device }).to("int64")),
      index: raw.index,
    };
  } finally {
    raw.release();
  }
}

/** Planes [channels][height][width] of one image as a normalised tensor, float32 [1, C, H, W]. */
export function planesTensor(
  planes: Uint8Array,
  size: Size,
  plan: PixelScale,
  { device = "cpu" }: ToTensorsOptions = {},
): Tensor {
  checkScale(plan);
  return tidy(() => {
    const images = fromTypedArray(planes, [1, plan.channels, size[0], size[1]], { device }).to("float32");
    normalise(images, plan);
    return images;
  });
}

/** Normalised images [..., C, H, W] back to values from 0 to 1 (a reconstruction may lie outside; nothing is clamped). */
export function denormalise(images: Tensor, plan: PixelScale): Tensor {
  checkScale(plan);
  const { shape } = images;
  if (shape.length < 3 || shape.at(-3) !== plan.channels) {
    throw new DataError(`denormalise got images of shape [${shape.join(", ")}]; expected [..., ${plan.channels}, H, W].`);
  }
  return tidy(() => {
    const detached = images.detach();
    const copy = detached.dtype === "float32" ? detached.clone().contiguous() : detached.float().contiguous();
    scaleShift(copy, plan.std, plan.mean);
    return copy;
  });
}
