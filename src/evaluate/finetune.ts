// Fine-tuning: an encoder and a classifier on it trained together on labelled images, by a published protocol or ours.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Dataset, ViewPlan } from "../data/index.js";
import { replaceText } from "../files.js";
import { type FitResult, fitModel, type Reporter, type Settings, tesseraVersion } from "../fit/index.js";
import type { Encoder } from "../models/index.js";
import { manualSeed } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { Classifier, exportClassifier, freezeParts, trainableEncoder } from "./finetune-model.js";
import type { FinetuneSettings } from "./finetune-settings.js";
import { FinetuneTask } from "./finetune-task.js";
import { learnableClasses } from "./labels.js";
import type { Confusion } from "./scores.js";

export interface FinetuneOptions {
  /** Where to start from; it stays as it is. */
  encoder: Encoder;
  /** Labelled images to learn from. */
  train: Dataset;
  /** Labelled images to be judged by, with the same classes. */
  test: Dataset;
  /** One view without chance, `evalViews(...)`: the images' size, channels and normalisation. */
  plan: ViewPlan;
  /** `finetunePlan(...)`. */
  settings: FinetuneSettings;
  /** The folder of the training: settings.json, metrics.jsonl, checkpoints/, export/, confusion.json. */
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
  /** Worker threads of each loader. Default: the loader's. */
  workers?: number;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number;
}

export interface FinetuneResult extends FitResult {
  readonly settings: FinetuneSettings;
  readonly images: { readonly train: number; readonly test: number };
  /** Class names. */
  readonly classes: readonly string[];
  /** Of the last evaluation; absent before the first. */
  readonly confusion?: Confusion;
  /** The files of the classifier, and of its averaged weights; once the training is done. */
  readonly exported?: { readonly classifier: string; readonly averaged?: string };
}

/**
 * Trains an encoder with a classifier on it until the protocol's end, or until SIGINT or SIGTERM, which leave a checkpoint to resume from.
 *
 * @throws EvaluateError for images, settings or an encoder that do not fit
 */
export async function finetune(options: FinetuneOptions): Promise<FinetuneResult> {
  const { encoder, train, test, plan, settings, out, fromScratch = false, bf16 = false, about = {} } = options;
  const classes = learnableClasses(train, test, "fine-tuning");
  if (plan.channels !== encoder.channels) {
    throw new EvaluateError(
      `The images have ${plan.channels} channel(s), the encoder takes ${encoder.channels}; expected as many.`,
    );
  }
  manualSeed(settings.seed);
  const make = () => {
    const changes = { ...settings, imageSize: plan.views[0]!.size, scratch: fromScratch };
    return new Classifier(trainableEncoder(encoder, changes), classes.length, settings);
  };
  const model = make();
  freezeParts(model, settings);
  const average = settings.ema === null ? undefined : make();
  try {
    const file = join(out, "confusion.json");
    const task = new FinetuneTask({
      model,
      average,
      settings,
      train,
      test,
      classes: classes.length,
      plan,
      bf16,
      workers: options.workers,
      onConfusion: (counts) => replaceText(file, `${JSON.stringify({ classes, counts })}\n`),
    });
    const result = await fitModel(task, {
      out,
      settings: { evaluation: "finetune", ...about, fromScratch, bf16, finetune: settings },
      precision: bf16 ? "bfloat16" : "float32",
      ...(options.resume !== undefined && { resume: options.resume }),
      ...(options.reporter && { reporter: options.reporter }),
      ...(options.checkpointMinutes !== undefined && { checkpointMinutes: options.checkpointMinutes }),
    });
    const exported = result.status === "done" ? exportAll(out, model, average, options, classes) : undefined;
    const confusion = readConfusion(file);
    return {
      ...result,
      settings,
      images: { train: train.length, test: test.length },
      classes,
      ...(confusion && { confusion }),
      ...(exported && { exported }),
    };
  } finally {
    model.dispose();
    average?.dispose();
  }
}

function exportAll(
  out: string,
  model: Classifier,
  average: Classifier | undefined,
  { plan, settings }: FinetuneOptions,
  classes: readonly string[],
): NonNullable<FinetuneResult["exported"]> {
  const metadata = {
    tessera: tesseraVersion,
    evaluation: "finetune",
    pool: model.fcNorm ? "mean" : settings.pool,
    classes: JSON.stringify(classes),
    mean: JSON.stringify(plan.mean),
    std: JSON.stringify(plan.std),
  };
  const classifier = join(out, "export", "classifier.safetensors");
  exportClassifier(classifier, model, metadata);
  if (!average) return { classifier };
  const averaged = join(out, "export", "averaged", "classifier.safetensors");
  exportClassifier(averaged, average, metadata);
  return { classifier, averaged };
}

function readConfusion(file: string): Confusion | undefined {
  if (!existsSync(file)) return undefined;
  return (JSON.parse(readFileSync(file, "utf8")) as { counts: Confusion }).counts;
}
