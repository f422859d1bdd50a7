// The views of the two frameworks, as options of the methods that stand on them: DINO's multi-crop, MoCo v3's two crops.
import { z } from "zod";
import {
  colorJitter,
  gaussianBlur,
  grayscale,
  horizontalFlip,
  randomResizedCrop,
  solarize,
  type Transform,
  type ViewPlan,
} from "../data/index.js";
import type { MethodContext } from "./method.js";

const scale = z.tuple([z.number().positive().max(1), z.number().positive().max(1)]);
const probability = z.number().min(0).max(1);
const size = z.int().positive();

/** What both frameworks' crops have in common. Defaults are BYOL's, which both take. */
const distortion = {
  /** Aspect ratio of a crop, before it is resized. */
  ratio: z.tuple([z.number().positive(), z.number().positive()]).default([3 / 4, 4 / 3]),
  /** Probability of a horizontal flip. */
  flip: probability.default(0.5),
  /** Strengths and probability of colour jitter; probability 0 turns it off. */
  jitter: z
    .strictObject({
      p: probability.default(0.8),
      brightness: z.number().min(0).default(0.4),
      contrast: z.number().min(0).default(0.4),
      saturation: z.number().min(0).default(0.2),
      hue: z.number().min(0).max(0.5).default(0.1),
    })
    .prefault({}),
  /** Probability of turning grey. */
  grayscale: probability.default(0.2),
  /** Probability of solarising the second global crop. */
  solarize: probability.default(0.2),
};

/** Defaults are DINO's (its code): 2 x 224 px of scale (0.4, 1) and 8 x 96 px of scale (0.05, 0.4), bicubic. */
export const multiCropOptions = z
  .strictObject({
    /** Pixels of a global crop's side. */
    globalSize: size.default(224),
    /** Share of the image's area in a global crop. DINO without local crops recommends (0.14, 1). */
    globalScale: scale.default([0.4, 1]),
    /** Number of local crops. */
    locals: z.int().min(0).default(8),
    localSize: size.default(96),
    localScale: scale.default([0.05, 0.4]),
    interpolation: z.enum(["bilinear", "bicubic"]).default("bicubic"),
    ...distortion,
    /** Probabilities of blur for the first global, the second global and the local crops. */
    blur: z.tuple([probability, probability, probability]).default([1, 0.1, 0.5]),
  })
  .prefault({});

export type MultiCropOptions = z.output<typeof multiCropOptions>;

/** Defaults are MoCo v3's for ViTs (its code): 2 x 224 px of scale (0.08, 1), bilinear. */
export const twoCropOptions = z
  .strictObject({
    /** Pixels of a crop's side. */
    globalSize: size.default(224),
    /** Share of the image's area in a crop. MoCo v3 takes (0.2, 1) for ResNets. */
    globalScale: scale.default([0.08, 1]),
    interpolation: z.enum(["bilinear", "bicubic"]).default("bilinear"),
    ...distortion,
    /** Probabilities of blur for the first and the second crop. */
    blur: z.tuple([probability, probability]).default([1, 0.1]),
  })
  .prefault({});

export type TwoCropOptions = z.output<typeof twoCropOptions>;

/** View "global", two crops. (MoCo v3's code flips last; a flip commutes with everything before it.) */
export function twoCropViews({ blur, ...options }: TwoCropOptions, data: MethodContext["data"]): ViewPlan {
  return multiCropViews({ ...options, blur: [...blur, 0], locals: 0, localSize: 1, localScale: [1, 1] }, data);
}

/** Views "global" (two crops) and "local" (none or more). */
export function multiCropViews(options: MultiCropOptions, data: MethodContext["data"]): ViewPlan {
  const { jitter, interpolation, ratio } = options;
  const crop = (range: readonly [number, number], blur: number, solarise: number): Transform[] => [
    randomResizedCrop({ scale: range, ratio, interpolation }),
    ...(options.flip > 0 ? [horizontalFlip({ p: options.flip })] : []),
    ...(jitter.p > 0 ? [colorJitter(jitter)] : []),
    ...(options.grayscale > 0 && data.channels === 3 ? [grayscale({ p: options.grayscale })] : []),
    ...(blur > 0 ? [gaussianBlur({ p: blur, sigma: [0.1, 2] })] : []),
    ...(solarise > 0 ? [solarize({ p: solarise })] : []),
  ];
  const [first, second, local] = options.blur;
  const { globalSize, localSize, globalScale, localScale } = options;
  const views = [
    {
      name: "global",
      size: [globalSize, globalSize] as const,
      crops: [crop(globalScale, first, 0), crop(globalScale, second, options.solarize)],
    },
    {
      name: "local",
      size: [localSize, localSize] as const,
      crops: Array.from({ length: options.locals }, () => crop(localScale, local, 0)),
    },
  ];
  return { channels: data.channels, mean: data.mean, std: data.std, views: views.filter((view) => view.crops.length > 0) };
}
