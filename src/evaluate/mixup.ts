// Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with itself backwards, and the soft targets that go with them, as timm's
// Mixup does by batch: one draw for all images of a step.
import type { Rng } from "../data/index.js";
import { full, type Tensor, tidy } from "../torch/index.js";

export interface MixOptions {
  /** Both parameters of mixup's Beta distribution; 0 for no mixup. */
  readonly mixup: number;
  /** Those of CutMix; 0 for no CutMix. */
  readonly cutmix: number;
  /** Probability of CutMix where both are on. */
  readonly switchProbability: number;
  /** Probability that a batch is mixed at all. */
  readonly probability: number;
}

/** How a batch is mixed: `lambda` is the share that each image keeps of itself. */
export type Mix =
  | { readonly kind: "mixup"; readonly lambda: number }
  | { readonly kind: "cutmix"; readonly lambda: number; readonly box: Box };

interface Box {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** Logarithm of a draw from the Gamma distribution of this shape and scale 1 (Marsaglia and Tsang, 2000). */
function logGamma(rng: Rng, shape: number): number {
  if (shape < 1) return logGamma(rng, shape + 1) + Math.log(1 - rng.uniform()) / shape;
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = rng.normal();
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    if (Math.log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return Math.log(d * v);
  }
}

/** A draw from Beta(alpha, alpha); alpha above 0. Of logarithms, so that no alpha is too small. */
export function drawBeta(rng: Rng, alpha: number): number {
  return 1 / (1 + Math.exp(-(logGamma(rng, alpha) - logGamma(rng, alpha))));
}

/** The box of an image of this size that CutMix takes from the other image, about a centre, and what is left outside of it. */
export function cutBox(
  [height, width]: readonly [number, number],
  lambda: number,
  [y, x]: readonly [number, number],
): { box: Box; lambda: number } {
  const share = Math.sqrt(1 - lambda);
  const [h, w] = [Math.trunc(height * share), Math.trunc(width * share)];
  const within = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  const box = {
    top: within(y - Math.floor(h / 2), height),
    bottom: within(y + Math.floor((h + 1) / 2), height),
    left: within(x - Math.floor(w / 2), width),
    right: within(x + Math.floor((w + 1) / 2), width),
  };
  return { box, lambda: 1 - ((box.bottom - box.top) * (box.right - box.left)) / (height * width) };
}

/** Draws how a batch of images of this size is mixed, or null for not at all. */
export function drawMix(rng: Rng, options: MixOptions, size: readonly [number, number]): Mix | null {
  const { mixup, cutmix, switchProbability, probability } = options;
  if ((mixup === 0 && cutmix === 0) || !rng.chance(probability)) return null;
  const cut = cutmix > 0 && (mixup === 0 || rng.chance(switchProbability));
  const lambda = drawBeta(rng, cut ? cutmix : mixup);
  if (!cut) return { kind: "mixup", lambda };
  return { kind: "cutmix", ...cutBox(size, lambda, [rng.intBelow(size[0]), rng.intBelow(size[1])]) };
}

/** Each image [B, C, H, W] with its counterpart from the end of the batch. */
export function mixImages(images: Tensor, mix: Mix): Tensor {
  return tidy(() => {
    if (mix.kind === "mixup") return images.mul(mix.lambda).add(images.flip([0]), { alpha: 1 - mix.lambda });
    const { top, bottom, left, right } = mix.box;
    const mixed = images.clone();
    if (bottom > top && right > left) {
      const inside = (all: Tensor) => all.narrow(2, top, bottom - top).narrow(3, left, right - left);
      inside(mixed).copy_(inside(images).flip([0]));
    }
    return mixed;
  });
}

/**
 * Probabilities that a classifier is to give, float32 [B, K]: 1 - smoothing for an image's class and the rest spread over all; of a mixed batch
 * lambda of that and 1 - lambda of the counterpart's.
 *
 * @param labels int64 [B]
 */
export function softTargets(
  labels: Tensor,
  classes: number,
  { smoothing = 0, mix = null }: { smoothing?: number; mix?: Pick<Mix, "lambda"> | null } = {},
): Tensor {
  return tidy(() => {
    const rest = smoothing / classes;
    const own = full([labels.size(0), classes], rest, { device: labels.device }).scatter_(
      1,
      labels.unsqueeze(1),
      1 - smoothing + rest,
    );
    return mix ? own.mul(mix.lambda).add(own.flip([0]), { alpha: 1 - mix.lambda }) : own;
  });
}
