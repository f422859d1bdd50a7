// Semantic segmentation: an encoder and a head trained together (or the head alone) on images with masks, and judged by mean IoU.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Dataset, PixelScale } from "../../data/index.js";
import { writePng } from "../../draw/index.js";
import { replaceText } from "../../files.js";
import { type FitResult, fitModel, type Reporter, type Settings, tesseraVersion } from "../../fit/index.js";
import { type Encoder, Segmenter, type SegmenterConfig } from "../../models/index.js";
import { manualSeed } from "../../torch/index.js";
import { EvaluateError } from "../errors.js";
import { trainableEncoder } from "../finetune-model.js";
import type { Confusion } from "../scores.js";
import type { SegmentationScores } from "./confusion.js";
import { type Measured, measureSegmenter } from "./measure.js";
import { examplesPicture } from "./pictures.js";
import { type SavedSegmenter, saveSegmenter } from "./saved.js";
import type { SegmentSettings } from "./settings.js";
import { cropOf, SegmentTask, testOf } from "./task.js";

export interface SegmentOptions {
  /** Where to start from; it stays as it is. */
  encoder: Encoder;
  /** Images with masks to learn from. */
  train: Dataset;
  /** Images with masks to be judged by, with the same classes. */
  test: Dataset;
  /** Channels and normalisation of the images. */
  scale: PixelScale;
  /** `segmentPlan(...)`. */
  settings: SegmentSettings;
  /** The folder of the training: settings.json, metrics.jsonl, checkpoints/, export/, images/, scores.json. */
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
  /** Told after each image of an evaluation. */
  onProgress?: (done: number, total: number) => void;
  /** Worker threads of the training loader. Default: the loader's. */
  workers?: number;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number;
}

/** What an evaluation found, as it is kept in scores.json. */
export interface SegmentFindings {
  readonly scores: SegmentationScores;
  readonly confusion: Confusion;
}

export interface SegmentResult extends FitResult {
  readonly settings: SegmentSettings;
  readonly images: { readonly train: number; readonly test: number };
  /** Of the last evaluation; absent before the first. */
  readonly findings?: SegmentFindings;
  /** The file of the segmenter; once the training is done. */
  readonly exported?: string;
}

/** The classes that both parts share. @throws EvaluateError where they do not, or have none */
export function sharedPixelClasses(train: Dataset, test: Dataset): readonly string[] {
  for (const { name, pixelClasses } of [train, test]) {
    if (!pixelClasses) {
      throw new EvaluateError(
        `${name} has no masks, which segmentation needs; give images such as segmentation:DIR, ade20k:DIR or cityscapes:DIR.`,
      );
    }
  }
  if (train.pixelClasses!.join("\n") !== test.pixelClasses!.join("\n")) {
    throw new EvaluateError(`${train.name} and ${test.name} have different classes; segmentation needs the same in both.`);
  }
  return train.pixelClasses!;
}

/**
 * Trains a segmenter until the protocol's end, or until SIGINT or SIGTERM, which leave a checkpoint to resume from.
 *
 * @throws EvaluateError for images, settings or an encoder that do not fit
 */
export async function segment(options: SegmentOptions): Promise<SegmentResult> {
  const { encoder, train, test, scale, settings, out, fromScratch = false, bf16 = false, about = {} } = options;
  const classes = sharedPixelClasses(train, test);
  if (scale.channels !== encoder.channels) {
    throw new EvaluateError(
      `The images have ${scale.channels} channel(s), the encoder takes ${encoder.channels}; expected as many.`,
    );
  }
  manualSeed(settings.seed);
  const config = headConfig(settings);
  const changes = { ...settings, imageSize: cropOf(settings), scratch: fromScratch };
  const own = trainableEncoder(encoder, changes);
  const model = new Segmenter(own, { ...config, classes: classes.length, frozen: settings.frozen });
  try {
    const task = new SegmentTask({
      model,
      settings,
      train,
      test,
      scale,
      bf16,
      workers: options.workers,
      onMeasured: (measured) => writeFindings(out, measured, classes),
      onProgress: options.onProgress ?? (() => {}),
    });
    const result = await fitModel(task, {
      out,
      settings: { evaluation: "segment", ...about, fromScratch, bf16, segment: settings },
      precision: bf16 ? "bfloat16" : "float32",
      ...(options.resume !== undefined && { resume: options.resume }),
      ...(options.reporter && { reporter: options.reporter }),
      ...(options.checkpointMinutes !== undefined && { checkpointMinutes: options.checkpointMinutes }),
    });
    const exported = result.status === "done" ? join(out, "export", "segmenter.safetensors") : undefined;
    if (exported) saveSegmenter(exported, { model, classes, scale, test: testOf(settings) }, config, { tessera: tesseraVersion });
    const findings = readFindings(out);
    return {
      ...result,
      settings,
      images: { train: train.length, test: test.length },
      ...(findings && { findings }),
      ...(exported && { exported }),
    };
  } finally {
    model.dispose();
  }
}

function headConfig({ head }: SegmentSettings): Omit<SegmenterConfig, "classes" | "frozen"> {
  const { kind, channels, dropout, convs, lastBlocks, levels, auxiliaryChannels } = head;
  return { head: kind, channels, dropout, convs, lastBlocks, auxiliaryChannels, ...(levels && { levels }) };
}

/** scores.json and, where there are any, images/segmentation.png. */
async function writeFindings(out: string, { scores, confusion, examples }: Measured, classes: readonly string[]): Promise<void> {
  replaceText(join(out, "scores.json"), `${JSON.stringify({ scores, confusion }, null, 1)}\n`);
  if (examples.length > 0) await writePng(join(out, "images", "segmentation.png"), examplesPicture(examples, classes));
}

function readFindings(out: string): SegmentFindings | undefined {
  const file = join(out, "scores.json");
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as SegmentFindings) : undefined;
}

export interface TestOptions {
  /** A trained segmenter. */
  saved: SavedSegmenter;
  test: Dataset;
  bf16?: boolean;
  /** A folder for scores.json and images/segmentation.png. Default: none. */
  out?: string;
  /** Images that are drawn. Default 8. */
  pictures?: number;
  onProgress?: (done: number, total: number) => void;
}

/** Judges a segmenter that is trained already. @throws EvaluateError where its classes are not those of the images */
export async function testSegmenter({
  saved,
  test,
  bf16 = false,
  out,
  pictures = 8,
  onProgress,
}: TestOptions): Promise<SegmentFindings> {
  const { model, classes, scale } = saved;
  if (!test.pixelClasses) {
    throw new EvaluateError(
      `${test.name} has no masks, which segmentation needs; give images such as segmentation:DIR, ade20k:DIR or cityscapes:DIR.`,
    );
  }
  if (test.pixelClasses.join("\n") !== classes.join("\n")) {
    throw new EvaluateError(
      `${test.name} has ${test.pixelClasses.length} classes (${test.pixelClasses.slice(0, 3).join(", ")}, ...), the segmenter was trained for ` +
        `${classes.length} (${classes.slice(0, 3).join(", ")}, ...); expected the same.`,
    );
  }
  const measured = await measureSegmenter(model, test, scale, {
    ...saved.test,
    bf16,
    ...(out !== undefined && { pictures }),
    ...(onProgress && { onProgress }),
  });
  if (out !== undefined) await writeFindings(out, measured, classes);
  const { scores, confusion } = measured;
  return { scores, confusion };
}
