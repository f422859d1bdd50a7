// Detection and instance segmentation: Mask R-CNN on an encoder, trained and judged by COCO's measures.
import { join } from "node:path";
import type { CocoDataset, Normalization } from "../../data/index.js";
import { type FitResult, fitModel, type Reporter, type Settings } from "../../fit/index.js";
import type { Encoder } from "../../models/index.js";
import { manualSeed } from "../../torch/index.js";
import { trainableEncoder } from "../finetune-model.js";
import type { DetectionSettings } from "./detection-settings.js";
import { DetectionTask } from "./detection-task.js";
import { checkCategories, detectorOn, exportDetector } from "./detector.js";
import { checkTruth } from "./judge.js";

export interface DetectionOptions {
  /** Where to start from; it stays as it is. */
  encoder: Encoder;
  /** Images with objects to learn from. */
  train: CocoDataset;
  /** Those to be judged by, with the same categories. */
  test: CocoDataset;
  /** What the encoder's images were normalised by. */
  normalization: Normalization;
  /** `detectionSettingsOf(...)`. */
  settings: DetectionSettings;
  /** The folder of the training: settings.json, metrics.jsonl, checkpoints/, export/, images/, results.json. */
  out: string;
  /** Go on with the training in `out`. Default false. */
  resume?: boolean;
  /** Fresh weights of the encoder's architecture instead of its own: the baseline that pre-training has to beat. Default false. */
  fromScratch?: boolean;
  /** Compute in bfloat16 where it is safe. Default false. */
  bf16?: boolean;
  /** What else decides the result, such as the weights' file and the images' names, for a resume to compare. */
  about?: Settings;
  /** Default: nowhere. */
  reporter?: Reporter;
  /** Worker threads. Default: the loader's. */
  workers?: number;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number;
  /** Told of the images that an evaluation has looked at. */
  onProgress?: (done: number, total: number) => void;
}

export interface DetectionResult extends FitResult {
  readonly settings: DetectionSettings;
  readonly images: { readonly train: number; readonly test: number };
  readonly categories: number;
  /** What was found in the last evaluation, in COCO's form for results. */
  readonly resultsFile: string;
  /** The file of the detector, once the training is done. */
  readonly detector?: string;
}

/**
 * Trains Mask R-CNN on an encoder until the protocol's end, or until SIGINT or SIGTERM, which leave a checkpoint to resume from.
 *
 * @throws EvaluateError for images, settings or an encoder that do not fit
 */
export async function trainDetector(options: DetectionOptions): Promise<DetectionResult> {
  const { encoder, test, settings, out, fromScratch = false, bf16 = false, about = {}, normalization } = options;
  checkCategories(options.train.categories, test.categories, test.name);
  checkTruth(test, settings.masks);
  const train = settings.onlyWithObjects ? options.train.withObjects() : options.train;
  manualSeed(settings.seed);
  const { dropPath, relPosBias, windowSize, globalBlocks } = settings;
  const windows = { windowSize, ...(globalBlocks && { globalBlocks }) };
  // Positions stay those of the encoder's own size: each batch interpolates them to its grid.
  const made = trainableEncoder(encoder, { dropPath, relPosBias, windows, imageSize: encoder.imageSize, scratch: fromScratch });
  const { onProgress, workers } = options;
  const detector = detectorOn(made, settings, test.categories, normalization);
  try {
    const task = new DetectionTask({ detector, settings, train, test, bf16, out, workers, onProgress });
    const result = await fitModel(task, {
      out,
      settings: { evaluation: "detect", ...about, fromScratch, bf16, detect: settings },
      precision: bf16 ? "bfloat16" : "float32",
      ...(options.resume !== undefined && { resume: options.resume }),
      ...(options.reporter && { reporter: options.reporter }),
      ...(options.checkpointMinutes !== undefined && { checkpointMinutes: options.checkpointMinutes }),
    });
    const file = join(out, "export", "detector.safetensors");
    const done = result.status === "done";
    if (done) exportDetector(file, detector);
    return {
      ...result,
      settings,
      images: { train: train.length, test: test.length },
      categories: test.categories.length,
      resultsFile: join(out, "results.json"),
      ...(done && { detector: file }),
    };
  } finally {
    detector.model.dispose();
  }
}
