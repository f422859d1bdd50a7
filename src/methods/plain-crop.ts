// The one view of methods that predict what they hide (MAE, CAE, RandSAC): a crop and a flip, no change of colour.
import { z } from "zod";
import { type PairedView, plainViews, type ViewPlan } from "../data/index.js";
import type { MethodContext } from "./method.js";

const share = z.number().positive().max(1);

/** Defaults are MAE's (its code): 224 px of scale (0.2, 1), bicubic, flipped half of the time. `least` is another least share. */
export const plainCrop = (least = 0.2) =>
  z
    .strictObject({
      /** Pixels of the crop's side. */
      globalSize: z.int().positive().default(224),
      /** Share of the image's area in the crop. */
      globalScale: z.tuple([share, share]).default([least, 1]),
      /** Aspect ratio of the crop, before it is resized. */
      ratio: z.tuple([z.number().positive(), z.number().positive()]).default([3 / 4, 4 / 3]),
      interpolation: z.enum(["bilinear", "bicubic"]).default("bicubic"),
      /** Probability of a horizontal flip. */
      flip: z.number().min(0).max(1).default(0.5),
    })
    .prefault({});

export const plainCropOptions = plainCrop();

export type PlainCropOptions = z.output<typeof plainCropOptions>;

/** View "image", one crop, and `pairs` of it. */
export function plainCropViews(
  options: PlainCropOptions,
  data: MethodContext["data"],
  pairs: readonly PairedView[] = [],
): ViewPlan {
  const { globalSize: size, globalScale: scale, ratio, interpolation, flip } = options;
  return plainViews({ channels: data.channels, normalization: data, size, scale, ratio, interpolation, flip, pairs });
}
