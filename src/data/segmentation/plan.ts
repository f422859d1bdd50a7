// What is made of an image and the classes of its pixels for training: mmsegmentation's pipeline for ADE20K and Cityscapes. As plain data.
import { DataError } from "../errors.js";
import type { Range, Size } from "../transforms.js";
import type { Normalization } from "../views.js";

/** The label of pixels that have no class. */
export const IGNORE_LABEL = 255;

/** The size that images are brought to, keeping their shape: as large as both bounds allow. */
export interface FitSize {
  /** Pixels of the shorter side at most. */
  readonly short: number;
  /** Pixels of the longer side at most; null for any. */
  readonly long: number | null;
}

export interface SegmentationPlan {
  readonly kind: "segmentation";
  readonly channels: 1 | 3;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Height and width of the crop; smaller images are filled up with the mean colour, and with pixels of no class. */
  readonly size: Size;
  /** The size before the random ratio. */
  readonly fit: FitSize;
  /** Range of the random ratio to that size. */
  readonly ratio: Range;
  /** A crop in which one class has more than this share of the labelled pixels is drawn again, up to ten times; 1 for no such rule. */
  readonly catMaxRatio: number;
  /** Probability of a flip. */
  readonly flip: number;
  /** Photometric distortion: brightness, contrast, saturation and hue, each with probability 0.5. */
  readonly distort: boolean;
}

export interface SegmentationPlanOptions {
  /** Side of the crop, or [height, width]. Default 512. */
  size?: number | Size;
  /** Default: shorter side 512, longer side 2048 (ADE20K). */
  fit?: FitSize;
  /** Default [0.5, 2]. */
  ratio?: Range;
  /** Default 0.75. */
  catMaxRatio?: number;
  /** Default 0.5. */
  flip?: number;
  /** Default true. */
  distort?: boolean;
  /** Default 3. */
  channels?: 1 | 3;
  /** Default: ImageNet's. */
  normalization?: Normalization;
}

const imagenet: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const grey: Normalization = { mean: [0.449], std: [0.226] };

/** The published pipeline for ADE20K, with what is given changed. */
export function segmentationPlan(options: SegmentationPlanOptions = {}): SegmentationPlan {
  const { size = 512, fit = { short: 512, long: 2048 }, ratio = [0.5, 2], catMaxRatio = 0.75, flip = 0.5 } = options;
  const { distort = true, channels = 3, normalization = channels === 3 ? imagenet : grey } = options;
  const plan: SegmentationPlan = {
    kind: "segmentation",
    channels,
    mean: [...normalization.mean],
    std: [...normalization.std],
    size: typeof size === "number" ? [size, size] : [size[0], size[1]],
    fit: { short: fit.short, long: fit.long },
    ratio: [ratio[0], ratio[1]],
    catMaxRatio,
    flip,
    distort,
  };
  checkSegmentationPlan(plan);
  return plan;
}

/** Refuses a plan that cannot be carried out, saying why. */
export function checkSegmentationPlan(plan: SegmentationPlan): void {
  const fail = (what: string): never => {
    throw new DataError(`The segmentation plan is wrong: ${what}.`);
  };
  const { channels, mean, std, size, fit, ratio, catMaxRatio, flip } = plan;
  const whole = (value: number) => Number.isInteger(value) && value > 0;
  if (channels !== 1 && channels !== 3) fail(`channels is ${channels}; expected 1 or 3`);
  if (mean.length !== channels || std.length !== channels) {
    fail(`mean and std have ${mean.length} and ${std.length} values for ${channels} channels`);
  }
  if (!size.every(whole)) fail(`size is [${size}]; expected [height, width] in whole pixels`);
  if (!whole(fit.short) || !(fit.long === null || (whole(fit.long) && fit.long >= fit.short))) {
    fail(`fit is ${fit.short} by ${fit.long}; expected whole pixels, the shorter side first`);
  }
  if (!(ratio[0] > 0 && ratio[1] >= ratio[0] && ratio[1] <= 100)) {
    fail(`ratio is [${ratio}]; expected [low, high] with 0 < low <= high <= 100`);
  }
  if (!(catMaxRatio > 0 && catMaxRatio <= 1)) fail(`catMaxRatio is ${catMaxRatio}; expected more than 0 and at most 1`);
  if (!(flip >= 0 && flip <= 1)) fail(`flip is ${flip}; expected a probability from 0 to 1`);
}

/**
 * Height and width of an image brought to a size (mmcv's imrescale): the largest scale at which neither side is longer than its bound; halves are
 * rounded up.
 *
 * @param ratio factor on the bounds, which are then cut to whole pixels. Default 1
 */
export function fitted(height: number, width: number, { short, long }: FitSize, ratio = 1): Size {
  const bound = (pixels: number) => Math.max(1, Math.trunc(pixels * ratio));
  const byShort = bound(short) / Math.min(height, width);
  const scale = long === null ? byShort : Math.min(byShort, bound(long) / Math.max(height, width));
  return [Math.max(1, Math.trunc(height * scale + 0.5)), Math.max(1, Math.trunc(width * scale + 0.5))];
}
