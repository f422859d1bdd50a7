// How far restored images are from the true ones, for the methods that restore whole images.
import { z } from "zod";
import { atLeastFloat32, l1Loss, mseLoss, smoothL1Loss, type Tensor } from "../torch/index.js";

export const distanceOption = z.enum(["l1", "l2", "smooth-l1"]);

const distances = { l1: l1Loss, l2: mseLoss, "smooth-l1": smoothL1Loss };

/**
 * The mean over all pixels and channels, or over the pixels where `where` is true (0 where none is).
 *
 * @param images [B, C, H, W], as the target
 * @param where bool [B, 1, H, W]
 */
export function imageDistance(
  kind: z.output<typeof distanceOption>,
  images: Tensor,
  target: Tensor,
  where?: Tensor | undefined,
): Tensor {
  const distance = distances[kind];
  if (!where) return distance(atLeastFloat32(images), target);
  const each = distance(atLeastFloat32(images), target, { reduction: "none" });
  return each
    .mul(where)
    .sum()
    .div(where.sum().mul(target.size(1)).clamp({ min: 1 }));
}
