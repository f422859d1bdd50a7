// What a reader of RandSAC wants to see: the order of the segments, and how each is predicted from those before it.
import { type Batch, denormalise } from "../data/index.js";
import {
  grid,
  heatImage,
  imagesOf,
  maskedImage,
  outlinedImage,
  type Picture,
  patchGrids,
  type RgbImage,
  readable,
} from "../draw/index.js";
import { type Tensor, where } from "../torch/index.js";
import { imagesOfPatches, patchTarget } from "./patch-target.js";
import type { Randsac } from "./randsac.js";

/** Steps that are shown of one image, and images whose steps are shown. */
const STEPS = 6;
const SHOWN = 4;

/** `segments`: images, their segments coloured by order, all predictions together. `steps`: what is known, and inside a line the next segment as it is predicted. */
export function randsacPictures(method: Randsac, batch: Batch): Picture[] {
  const images = batch.views.image!.flatten(0, 1);
  const { stride } = method.encoder;
  const { normalizePatches } = method.options;
  const shape = [images.size(2) / stride, images.size(3) / stride] as const;
  const ranks = method.ranks(images);
  const { values, patches } = method.predict(images, ranks);
  const index = patches.unsqueeze(-1).expand(values.shape);
  const whole = patchTarget(images, stride, normalizePatches).clone().scatter_(1, index, values.float());
  const pixels = (tensor: Tensor) => imagesOf(tensor, "images").map((each) => readable(each));
  const restored = denormalise(imagesOfPatches(whole, images, stride, normalizePatches), method.views).clamp({ min: 0, max: 1 });
  const original = denormalise(images, method.views);
  const predicted = where(byPixel(ranks.ge(1), shape, stride), restored, original);
  const last = ranks.amax().item();
  const orders = patchGrids(ranks.float().unflatten(1, shape), "ranks");
  const originals = pixels(original);
  const overview = grid(
    [
      originals,
      originals.map((each, i) => heatImage(each, orders[i]!, { range: [0, last], alpha: 0.75, colormap: "viridis" })),
      pixels(predicted),
    ],
    { rows: ["original", "order", "predicted"] },
  );
  return [
    { name: "segments", image: overview },
    { name: "steps", image: steps() },
  ];

  function steps(): RgbImage {
    const count = Math.min(last, STEPS);
    // Evenly over the order where there are more segments than columns.
    const shown = Array.from({ length: count }, (_, i) => Math.round(((i + 1) * last) / count));
    const rows = Array.from({ length: Math.min(SHOWN, images.size(0)) }, (_, i) => i);
    const columns = shown.map((rank) => {
      const known = where(byPixel(ranks.lt(rank), shape, stride), original, restored);
      const later = patchGrids(ranks.gt(rank).float().unflatten(1, shape), "later");
      const now = patchGrids(ranks.eq(rank).float().unflatten(1, shape), "now");
      return pixels(known).map((each, i) => outlinedImage(maskedImage(each, later[i]!), now[i]!));
    });
    return grid(
      rows.map((i) => columns.map((column) => column[i]!)),
      { columns: shown.map((rank) => `segment ${rank + 1}`) },
    );
  }
}

/** A truth of each patch [B, N] as one of each pixel, [B, 1, H, W]. */
function byPixel(patches: Tensor, [rows, columns]: readonly [number, number], stride: number): Tensor {
  const cells = patches.unflatten(1, [rows, columns]).unsqueeze(1);
  return cells.repeatInterleave(stride, 2).repeatInterleave(stride, 3);
}
