// How the detection loader shows an image: its size, by chance or fixed, and where chance cuts and flips it.
import { DataError } from "../errors.js";
import type { Interpolation } from "../resample.js";
import { namedStream, Rng } from "../rng.js";
import type { Range, Size } from "../transforms.js";
import type { Normalization } from "../views.js";
import type { MaskSize } from "./rle.js";

/** One of two ways to size an image. */
export type DetectionResize =
  /** The shorter side becomes one of `shorter`, by chance; less where the longer one would exceed `longest`. */
  | { readonly shorter: readonly number[]; readonly longest: number }
  /**
   * Large-scale jitter (Ghiasi et al. 2021, "Simple Copy-Paste", section 3): the image is fitted into `size` times a factor drawn from `jitter`, and
   * a part of at most `size` is cut out by chance. The paper's ranges: [0.1, 2] large, [0.8, 1.25] standard.
   */
  | { readonly jitter: Range; readonly size: Size };

export interface DetectionPlan extends Normalization {
  readonly resize: DetectionResize;
  /** The chance that an image is mirrored. */
  readonly flip: number;
  /** Whether masks are made. */
  readonly masks: boolean;
  /** Batches are padded to multiples of this many pixels. */
  readonly divisor: number;
  readonly interpolation: Interpolation;
}

export interface DetectionPlanOptions {
  /** Default: the shorter side 800 px, the longer at most 1333. Several sizes are drawn from. */
  resize?: DetectionResize;
  /** Default 0; 0.5 is usual for training. */
  flip?: number;
  /** Default true. */
  masks?: boolean;
  /** Default 32. */
  divisor?: number;
  /** Default bilinear. */
  interpolation?: Interpolation;
  /** Default ImageNet's. */
  normalization?: Normalization;
}

/** A plan, checked. Without options: the usual one of evaluation. */
export function detectionPlan(options: DetectionPlanOptions = {}): DetectionPlan {
  const { flip = 0, masks = true, divisor = 32, interpolation = "bilinear" } = options;
  const { mean, std } = options.normalization ?? { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
  const { resize = { shorter: [800], longest: 1333 } } = options;
  const refuse = (what: string): never => {
    throw new DataError(`The detection plan is wrong: ${what}.`);
  };
  const isSide = (side: number): boolean => Number.isInteger(side) && side > 0;
  if ("shorter" in resize) {
    const { shorter, longest } = resize;
    if (shorter.length === 0 || !shorter.every(isSide)) refuse(`shorter is [${shorter}]; expected whole pixels`);
    if (!isSide(longest) || longest < Math.min(...shorter)) refuse(`longest is ${longest}; expected at least the shortest side`);
  } else {
    const [low, high] = resize.jitter;
    if (!(low > 0 && high >= low && Number.isFinite(high))) refuse(`jitter is [${resize.jitter}]; expected [low, high] above 0`);
    if (!resize.size.every(isSide)) refuse(`size is [${resize.size}]; expected [height, width] in whole pixels`);
  }
  if (!(flip >= 0 && flip <= 1)) refuse(`flip is ${flip}; expected a chance from 0 to 1`);
  if (!isSide(divisor)) refuse(`divisor is ${divisor}; expected whole pixels`);
  if (mean.length !== 3 || std.length !== 3) refuse(`mean and std have ${mean.length} and ${std.length} values; expected 3 each`);
  return { resize, flip, masks, divisor, interpolation, mean: [...mean], std: [...std] };
}

/** What is made of one image: it is resized, a part is cut out, and that is mirrored or not. */
export interface Placement {
  readonly resized: MaskSize;
  /** The part that is shown, in pixels of the resized image. */
  readonly top: number;
  readonly left: number;
  readonly size: MaskSize;
  readonly flip: boolean;
}

const STREAM = namedStream("detection");

/** The placement of a sample: a function of the seed, the epoch and the sample's number alone. */
export function placementOf(plan: DetectionPlan, original: MaskSize, seed: number, epoch: number, sample: number): Placement {
  const rng = new Rng(seed, epoch, sample, STREAM);
  const { resize } = plan;
  const flipped = rng.chance(plan.flip);
  const [height, width] = original;
  if ("shorter" in resize) {
    const side = resize.shorter[rng.intBelow(resize.shorter.length)]!;
    const scale = Math.min(side / Math.min(height, width), resize.longest / Math.max(height, width));
    const resized = scaled(original, scale);
    return { resized, top: 0, left: 0, size: resized, flip: flipped };
  }
  const factor = rng.uniform(resize.jitter[0], resize.jitter[1]);
  const scale = factor * Math.min(resize.size[0] / height, resize.size[1] / width);
  const resized = scaled(original, scale);
  const size: MaskSize = [Math.min(resized[0], resize.size[0]), Math.min(resized[1], resize.size[1])];
  const top = rng.intBelow(resized[0] - size[0] + 1);
  const left = rng.intBelow(resized[1] - size[1] + 1);
  return { resized, top, left, size, flip: flipped };
}

function scaled([height, width]: MaskSize, scale: number): MaskSize {
  return [Math.max(1, Math.floor(height * scale + 0.5)), Math.max(1, Math.floor(width * scale + 0.5))];
}
