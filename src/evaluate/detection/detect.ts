// A detector's results on images, in COCO's form and in pixels of the files.
import { type CocoDataset, createDetectionLoader, detectionTensors, encodeMask, toRleJson } from "../../data/index.js";
import { type Detections, pasteMask } from "../../models/index.js";
import { autocast, noGrad, tidy } from "../../torch/index.js";
import { evalMode } from "../features.js";
import { turn } from "../turn.js";
import { type Detector, testPlan } from "./detector.js";
import type { CocoResult } from "./results.js";

export interface DetectOptions {
  /** Images at once. Default 1. */
  batchSize?: number;
  /** Compute in bfloat16 where it is safe. Default false. */
  bf16?: boolean;
  /** Worker threads. Default: the loader's. */
  workers?: number | undefined;
  /** Told after each batch how many images are done. */
  onProgress?: (done: number, total: number) => void;
}

type Size = readonly [height: number, width: number];

/** What a detector finds in all images of a dataset. Labels are those of the dataset's categories, in their order. */
export async function detectObjects(
  detector: Detector,
  dataset: CocoDataset,
  options: DetectOptions = {},
): Promise<CocoResult[]> {
  const { batchSize = 1, bf16 = false, workers, onProgress } = options;
  const plan = testPlan(detector);
  const loader = createDetectionLoader({
    dataset,
    plan,
    batchSize: Math.min(batchSize, dataset.length),
    shuffle: false,
    ...(workers !== undefined && { workers }),
  });
  const { model } = detector;
  const restore = evalMode(model);
  const results: CocoResult[] = [];
  let done = 0;
  try {
    for await (const raw of loader.epoch(0)) {
      tidy(() =>
        noGrad(() => {
          const { images, samples } = detectionTensors(raw, plan);
          const sizes = samples.map(({ size }) => size);
          const found = bf16 ? autocast({}, () => model.detect(images, sizes)) : model.detect(images, sizes);
          for (const [i, { imageId, size, original }] of samples.entries()) {
            const ids = dataset.categories.map(({ id }) => id);
            results.push(...resultsOf(found[i]!, size, original).map(({ label, ...rest }) => ({ image_id: imageId, category_id: ids[label]!, ...rest }))); // biome-ignore format: one thought
          }
        }),
      );
      done += raw.samples.length;
      onProgress?.(done, dataset.length);
      // Batches that are ready are promises already kept: without this turn of the event loop no signal would be heard.
      await turn();
    }
  } finally {
    restore();
    await loader.close();
  }
  return results;
}

/** Detections of an image that was shown at `size`, at its own one. */
export function resultsOf(
  found: Detections,
  size: Size,
  original: Size,
): (Pick<CocoResult, "score" | "bbox" | "segmentation"> & { label: number })[] {
  const [down, across] = [original[0] / size[0], original[1] / size[1]];
  const corners = found.boxes.toArray();
  const labels = found.labels.toArray();
  return found.scores.toArray().map((score, i) => {
    const [left, top, right, bottom] = corners.slice(4 * i, 4 * i + 4) as [number, number, number, number];
    const box = [left * across, top * down, right * across, bottom * down] as const;
    const bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]];
    const shown = { label: labels[i]!, score, bbox };
    if (!found.masks) return shown;
    const { top: y, left: x, size: part, values } = tidy(() => pasteMask(found.masks!.select(0, i), box, original));
    const empty = part[0] === 0 || part[1] === 0;
    const mask = empty
      ? encodeMask([0], [1, 1], { top: 0, left: 0, size: original })
      : encodeMask(values, part, { top: y, left: x, size: original });
    return { ...shown, segmentation: toRleJson(mask) };
  });
}
