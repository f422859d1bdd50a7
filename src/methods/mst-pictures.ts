// What a reader of MST wants to see: original, mask and reconstruction side by side, and the teacher's attention by head.
import { type Batch, denormalise } from "../data/index.js";
import { type Picture, reconstructionGrid } from "../draw/index.js";
import { globalCrops } from "./framework.js";
import { attentionPicture } from "./framework-pictures.js";
import type { Mst } from "./mst.js";

/** Pictures of the first global crop of each image of a batch. */
export function mstPictures(method: Mst, batch: Batch): Picture[] {
  const images = globalCrops(batch).narrow(0, 0, batch.views.global!.size(1));
  const taught = method.encoder.call(images, { attention: true });
  const [rows, columns] = taught.grid;
  const original = denormalise(images, method.views);
  const pictures = [attentionPicture(method, images, taught)];
  const { decoder, student, maskToken } = method.trainable;
  if (!decoder) return pictures;
  const where = method.mask(images, taught.attention);
  const seen = student.backbone.call(images, where ? { mask: { where, token: maskToken } } : {});
  const restored = decoder.call(seen.patches!, seen.grid).float();
  const image = reconstructionGrid({
    original,
    direction: "across",
    reconstruction: denormalise(restored, method.views).clamp({ min: 0, max: 1 }),
    ...(where ? { mask: where.unflatten(1, [rows, columns]) } : {}),
  });
  return [{ name: "reconstruction", image }, ...pictures];
}
