// The classes of an image's pixels: at once or window by window, with its mirror image, at several sizes.
import { type FitSize, fitted, type PixelScale, type Pixels, planesTensor, resizedPlanes } from "../../data/index.js";
import type { Segmenter } from "../../models/index.js";
import { atLeastFloat32, autocast, interpolate, noGrad, pad, type Tensor, tidy, zeros } from "../../torch/index.js";

export interface InferenceOptions {
  /** `slide`: windows, scores averaged where they overlap; `whole`: the image at once. */
  readonly mode: "slide" | "whole";
  /** Height and width of the windows, and pixels from one to the next. */
  readonly window: readonly [number, number];
  readonly stride: number;
  /** The size that images are brought to. */
  readonly fit: FitSize;
  /** Also the mirrored image. */
  readonly flip: boolean;
  /** Factors on the size. */
  readonly scales: readonly number[];
  /** Under bfloat16 autocast. */
  readonly bf16: boolean;
}

/** How a segmenter is tested, whatever the precision. */
export type SavedTest = Omit<InferenceOptions, "bf16">;

/** Scores of the classes at the images' own size, [B, K, H, W]. Sides that the encoder cannot take are filled up with the mean colour. */
export function scoresOf(model: Segmenter, images: Tensor, bf16 = false): Tensor {
  return tidy(() => {
    const multiple = model.encoder.levelShapes[0]!.stride;
    const [height, width] = images.shape.slice(2) as [number, number];
    const [down, right] = [(multiple - (height % multiple)) % multiple, (multiple - (width % multiple)) % multiple];
    const whole = down + right > 0 ? pad(images, [0, right, 0, down]) : images;
    const { logits } = bf16 ? autocast({}, () => model.call(whole)) : model.call(whole);
    const size = [height + down, width + right] as const;
    const scores = interpolate(atLeastFloat32(logits), { size, mode: "bilinear" });
    return scores.narrow(2, 0, height).narrow(3, 0, width).contiguous();
  });
}

/** Where windows begin along one side: every `stride` pixels, the last one moved back to the end. */
export function windowStarts(length: number, window: number, stride: number): number[] {
  const count = Math.ceil(Math.max(0, length - window) / stride) + 1;
  return Array.from({ length: count }, (_, i) => Math.max(0, Math.min(i * stride, length - window)));
}

/**
 * As scoresOf, of windows, averaged where they overlap. Images smaller than a window are filled up to it, as training crops are, so that every
 * patch has the position that it had in training.
 */
export function slidingScores(
  model: Segmenter,
  images: Tensor,
  { window, stride, bf16 = false }: Pick<InferenceOptions, "window" | "stride"> & { bf16?: boolean },
): Tensor {
  return tidy(() => {
    const [batch = 0, , ownHeight = 0, ownWidth = 0] = images.shape;
    const [height, width] = [Math.max(ownHeight, window[0]), Math.max(ownWidth, window[1])];
    const whole = pad(images, [0, width - ownWidth, 0, height - ownHeight]);
    const sum = zeros([batch, model.classes, height, width], { dtype: images.dtype, device: images.device });
    const count = zeros([1, 1, height, width], { dtype: images.dtype, device: images.device });
    for (const top of windowStarts(height, window[0], stride)) {
      for (const left of windowStarts(width, window[1], stride)) {
        tidy(() => {
          const part = (tensor: Tensor) => tensor.narrow(2, top, window[0]).narrow(3, left, window[1]);
          part(sum).add_(scoresOf(model, part(whole), bf16));
          part(count).add_(1);
        });
      }
    }
    return sum.div_(count).narrow(2, 0, ownHeight).narrow(3, 0, ownWidth).contiguous();
  });
}

/**
 * The class of every pixel of an image at its own size, int64 [H, W]. Of several looks (mirrored, at several sizes) the probabilities are averaged.
 * The model is in evaluation mode.
 */
export function predict(model: Segmenter, image: Pixels, scale: PixelScale, options: InferenceOptions): Tensor {
  const { mode, fit, flip, scales, bf16 } = options;
  const { height, width } = image;
  return noGrad(() =>
    tidy(() => {
      const looks = scales.length * (flip ? 2 : 1);
      let sum: Tensor | undefined;
      for (const ratio of scales) {
        const size = fitted(height, width, fit, ratio);
        const images = planesTensor(resizedPlanes(image, size, scale.channels), size, scale);
        for (const mirrored of flip ? [false, true] : [false]) {
          const before = sum;
          sum = tidy(() => {
            const given = mirrored ? images.flip(3) : images;
            const own = mode === "slide" ? slidingScores(model, given, options) : scoresOf(model, given, bf16);
            const scores = interpolate(mirrored ? own.flip(3) : own, { size: [height, width], mode: "bilinear" });
            if (looks === 1) return scores;
            const probabilities = scores.softmax(1);
            return before ? before.add(probabilities) : probabilities;
          });
          before?.dispose();
        }
      }
      return sum!.argmax(1).select(0, 0);
    }),
  );
}
