// What was found in an image beside what is there.
import { type CocoDataset, decodeMask, type Pixels } from "../../data/index.js";
import { classColor, type DrawnObject, drawObjects, grid, type RgbImage } from "../../draw/index.js";
import { EvaluateError } from "../errors.js";
import { type CocoResult, idsOf, maskOf, wrongWith } from "./results.js";

export interface DetectionPictureOptions {
  /** Results with lower scores are not drawn. Default 0.5. */
  minScore?: number;
  /** At most so many results, the surest. Default 50. */
  most?: number;
}

/**
 * Draws the truth (crowds in dashes) and the results of an image side by side, at the image's own size. Masks are drawn where there are any.
 *
 * @param index the image's number in the dataset @param results of any images: those of this one are drawn
 */
export async function detectionPicture(
  dataset: CocoDataset,
  index: number,
  results: readonly CocoResult[],
  { minScore = 0.5, most = 50 }: DetectionPictureOptions = {},
): Promise<RgbImage> {
  const image = rgbOf(await dataset.read(index));
  const ids = idsOf(dataset);
  const own = results
    .map((result, number) => ({ result, number }))
    .filter(({ result }) => result.image_id === dataset.imageId(index) && result.score >= minScore)
    .sort((a, b) => b.result.score - a.result.score || a.number - b.number)
    .slice(0, most)
    .reverse();
  const found = own.map(({ result, number }): DrawnObject => {
    const wrong = wrongWith(result, ids);
    if (wrong) throw new EvaluateError(`Result ${number}: ${wrong}.`);
    const label = ids.labels.get(result.category_id)!;
    const mask = result.segmentation && decodeMask(maskOf(result, number, dataset, index));
    return objectOf(dataset, label, result.bbox ?? [0, 0, 0, 0], mask, { score: result.score });
  });
  const truth = [...dataset.objects(index)]
    .sort((a, b) => dataset.area(b) - dataset.area(a))
    .map((object): DrawnObject => {
      const mask = dataset.mask(object);
      const pixels = mask && decodeMask(mask);
      return objectOf(dataset, dataset.labelOf(object), dataset.box(object), pixels, { dashed: dataset.isCrowd(object) });
    });
  const pictures = [drawObjects(image, truth), drawObjects(image, found)];
  return grid([pictures], {
    columns: ["truth", found.length > 0 ? "found" : `nothing found with ${minScore} or more`],
    cell: 320,
  });
}

function objectOf(
  dataset: CocoDataset,
  label: number,
  [x, y, width, height]: readonly number[],
  mask: Uint8Array | undefined,
  rest: Pick<DrawnObject, "score" | "dashed">,
): DrawnObject {
  const box = [x!, y!, x! + width!, y! + height!] as const;
  return { box, name: dataset.categories[label]!.name, color: classColor(label), ...(mask && { mask }), ...rest };
}

function rgbOf({ width, height, channels, data }: Pixels): RgbImage {
  if (channels === 3) return { width, height, data };
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) rgb.fill(data[i]!, 3 * i, 3 * i + 3);
  return { width, height, data: rgb };
}
