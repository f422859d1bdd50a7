// Found objects in COCO's form for results, checked.
import { type CocoDataset, fromRleJson, JsonFile, type Rle, type RleJson } from "../../data/index.js";
import { EvaluateError } from "../errors.js";

/** One found object, as COCO's results files have them. */
export interface CocoResult {
  /** The image's id in the annotations file. */
  readonly image_id: number;
  /** The category's id in the annotations file (not the label that a model gives, which counts from 0). */
  readonly category_id: number;
  /** Left, top, width and height in pixels of the image as it is in its file. */
  readonly bbox?: readonly number[];
  /** Higher is surer. */
  readonly score: number;
  /** A mask of the image's size as run lengths. */
  readonly segmentation?: RleJson | Rle;
}

/** What is compared: boxes or masks. */
export type CocoKind = "box" | "mask";

/** What is known of the truth when results are checked. */
export interface CocoIds {
  /** Place of an image by id. */
  readonly images: ReadonlyMap<number, number>;
  /** Label by the category's id. */
  readonly labels: ReadonlyMap<number, number>;
}

export function idsOf(truth: CocoDataset): CocoIds {
  const images = new Map(Array.from({ length: truth.length }, (_, i) => [truth.imageId(i), i]));
  return { images, labels: new Map(truth.categories.map(({ id }, label) => [id, label])) };
}

/** What is wrong with a result, or undefined. */
export function wrongWith(result: unknown, { images, labels }: CocoIds): string | undefined {
  if (typeof result !== "object" || result === null) return `it is ${JSON.stringify(result)}; expected an object`;
  const { image_id: image, category_id: category, score, bbox, segmentation } = result as CocoResult;
  if (!images.has(image)) return `its image_id is ${JSON.stringify(image)}, which no image of the annotations has`;
  if (!labels.has(category)) {
    return `its category_id is ${JSON.stringify(category)}, which no category of the annotations has (ids, not labels from 0)`;
  }
  if (typeof score !== "number" || !Number.isFinite(score)) return `its score is ${JSON.stringify(score)}; expected a number`;
  if (bbox !== undefined && !isBox(bbox)) return `its bbox is ${JSON.stringify(bbox)}; expected [x, y, width, height]`;
  if (segmentation !== undefined && !isRle(segmentation)) {
    return 'its segmentation is none of {"size": [height, width], "counts": ...}';
  }
  return undefined;
}

function isBox(value: unknown): boolean {
  return (
    Array.isArray(value) && value.length === 4 && value.every((each) => Number.isFinite(each)) && value[2] >= 0 && value[3] >= 0
  );
}

function isRle(value: unknown): boolean {
  return typeof value === "object" && value !== null && "size" in value && "counts" in value;
}

/** The mask of result `index`, at its image's size. */
export function maskOf(result: CocoResult, index: number, truth: CocoDataset, image: number): Rle {
  const { segmentation } = result;
  if (segmentation === undefined) throw new EvaluateError(`Result ${index} has no segmentation, so masks cannot be compared.`);
  let rle: Rle;
  try {
    rle = fromRleJson(segmentation);
  } catch (cause) {
    throw new EvaluateError(`Result ${index}: ${(cause as Error).message}`, { cause });
  }
  const [height, width] = truth.size(image);
  if (rle.size[0] !== height || rle.size[1] !== width) {
    throw new EvaluateError(
      `The mask of result ${index} is ${rle.size.join(" x ")} pixels, but its image (id ${result.image_id}) is ${height} x ${width}; ` +
        "expected one size.",
    );
  }
  return rle;
}

/** Reads a results file of COCO: a list. @throws DataError or EvaluateError with line and column of what is wrong */
export async function readCocoResults(path: string, truth: CocoDataset): Promise<CocoResult[]> {
  const file = await JsonFile.read(path, "results");
  const ids = idsOf(truth);
  const results: CocoResult[] = [];
  for (const { key, index, value, offset } of file.parts()) {
    if (key !== "") throw new EvaluateError(`${path} is an object; expected a list of results, [{"image_id": ..., ...}, ...].`);
    if (index === undefined) break;
    const wrong = wrongWith(value, ids);
    if (wrong) throw new EvaluateError(`${file.place(offset)}: result ${index}: ${wrong}.`);
    results.push(value as CocoResult);
  }
  return results;
}
