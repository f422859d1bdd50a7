// What there is to see of a method that compares views: the views with what its encoder takes for alike, and where its encoder looks.
import { type Batch, denormalise } from "../data/index.js";
import { attentionGrid, grid, imagesOf, type Picture, readable } from "../draw/index.js";
import type { Encoded, Encoder } from "../models/index.js";
import { noGrad, normalize, type Tensor } from "../torch/index.js";
import { globalCrops } from "./framework.js";
import type { Method } from "./method.js";

type Seen = Pick<Method, "views"> & { readonly encoder: Encoder };

/** `matches` and `attention`, of the first global crop of each image of a batch. */
export function frameworkPictures(method: Seen, batch: Batch): Picture[] {
  return noGrad(() => {
    const images = globalCrops(batch);
    const encoded = method.encoder.call(images, { attention: true });
    const count = images.size(0) / 2;
    const attention = encoded.attention!.narrow(0, 0, count);
    return [
      matchesPicture(method, batch, encoded.feature),
      attentionPicture(method, images.narrow(0, 0, count), { ...encoded, attention }),
    ];
  });
}

/** The attention of the encoder's last block over each image, by head: the class token's, or that of all patches where there is none. */
export function attentionPicture({ encoder, views }: Seen, images: Tensor, { attention, grid }: Encoded): Picture {
  const maps = attention!.slice(2, encoder.prefix).float().unflatten(2, grid);
  return { name: "attention", image: attentionGrid({ image: denormalise(images, views), attention: maps, direction: "across" }) };
}

/** Both views of each image, and below them the second view of the other image whose feature lies nearest to the first view's. */
function matchesPicture({ views }: Seen, batch: Batch, features: Tensor): Picture {
  const [first, second] = batch.views.global!.unbind(0).map((each) => {
    return imagesOf(denormalise(each, views), "view").map((image) => readable(image));
  }) as [ReturnType<typeof imagesOf>, ReturnType<typeof imagesOf>];
  const [a, b] = normalize(features.float()).chunk(2, 0) as [Tensor, Tensor];
  const nearest = nearestOther(a.matmul(b.transpose(0, 1)).toArray(), first.length);
  const others = nearest.map((other) => second[other]);
  return { name: "matches", image: grid([first, second, others], { rows: ["view 1", "view 2", "nearest other"] }) };
}

/** For each row of a matrix the column of its largest value off the diagonal. */
function nearestOther(matrix: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, row) => {
    const columns = Array.from({ length: count }, (_, column) => column).filter((column) => column !== row);
    return columns.reduce(
      (best, each) => (matrix[row * count + each]! > matrix[row * count + best]! ? each : best),
      columns[0] ?? row,
    );
  });
}
