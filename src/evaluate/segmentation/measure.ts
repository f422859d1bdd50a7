// A segmenter judged on a whole dataset, each image once at its own size.
import type { Dataset, PixelScale, Pixels } from "../../data/index.js";
import type { Segmenter } from "../../models/index.js";
import { fromTypedArray, tidy } from "../../torch/index.js";
import { EvaluateError } from "../errors.js";
import { evalMode } from "../features.js";
import type { Confusion } from "../scores.js";
import { turn } from "../turn.js";
import { PixelConfusion, type SegmentationScores, segmentationScores } from "./confusion.js";
import { type InferenceOptions, predict } from "./infer.js";
import { type Example, exampleOf } from "./pictures.js";

export interface MeasureOptions extends InferenceOptions {
  /** So many images, evenly spread over the dataset, are kept beside their truth and the prediction. Default 0. */
  readonly pictures?: number;
  /** Told after each image. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Measured {
  readonly scores: SegmentationScores;
  readonly confusion: Confusion;
  readonly examples: readonly Example[];
}

/** @throws EvaluateError for an image or a mask that cannot be used: each of them counts */
export async function measureSegmenter(
  model: Segmenter,
  dataset: Dataset,
  scale: PixelScale,
  { pictures = 0, onProgress, ...options }: MeasureOptions,
): Promise<Measured> {
  const names = dataset.pixelClasses;
  if (!names) throw new EvaluateError(`${dataset.name} has no classes of pixels to compare with.`);
  const confusion = new PixelConfusion(names.length);
  const examples: Example[] = [];
  const total = dataset.length;
  const shown = new Set(
    Array.from({ length: Math.min(pictures, total) }, (_, i) => Math.floor((i * total) / Math.min(pictures, total))),
  );
  const restore = evalMode(model);
  const read = (index: number): Promise<Pixels> => {
    const image = readOne(dataset, index);
    image.catch(() => {}); // dealt with when it is awaited
    return image;
  };
  try {
    let next = read(0);
    for (let index = 0; index < total; index++) {
      const image = await next;
      // The next one is decoded, by another thread, while this one is computed.
      if (index + 1 < total) next = read(index + 1);
      tidy(() => {
        const { labels, height, width } = image;
        const predicted = predict(model, image, scale, options);
        confusion.add(fromTypedArray(labels!, [height, width]).to("int64"), predicted);
        if (shown.has(index)) examples.push(exampleOf(image, Uint8Array.from(predicted.toArray())));
      });
      onProgress?.(index + 1, total);
      // Without this turn of the event loop no signal would be heard.
      await turn();
    }
  } finally {
    restore();
  }
  return { scores: segmentationScores(confusion.counts, names), confusion: confusion.counts, examples };
}

async function readOne(dataset: Dataset, index: number): Promise<Pixels> {
  try {
    return await dataset.read(index);
  } catch (cause) {
    const path = dataset.path(index);
    const { message } = cause as Error;
    throw new EvaluateError(message.includes(path) ? message : `${path} cannot be measured: ${message}`, { cause });
  }
}
