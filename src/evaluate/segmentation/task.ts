// Segmentation as a task for the loop that trains: crops of images and masks, the loss of the heads, and mean IoU on the test images.
import {
  createLoader,
  type Dataset,
  type Loader,
  type PixelScale,
  type RawBatch,
  type SegmentationPlan,
  segmentationPlan,
  toPixelTensors,
} from "../../data/index.js";
import type { FitTask, Scores } from "../../fit/index.js";
import type { Segmenter } from "../../models/index.js";
import { AdamW, decayGroups, type ParameterGroup, type Schedule } from "../../optim/index.js";
import type { Tensor } from "../../torch/index.js";
import { encoderDecayGroups } from "../encoder-layers.js";
import { EvaluateError } from "../errors.js";
import type { SavedTest } from "./infer.js";
import { segmentationLoss } from "./loss.js";
import { type Measured, measureSegmenter } from "./measure.js";
import { polySchedule } from "./poly.js";
import type { SegmentSettings } from "./settings.js";

export interface SegmentParts {
  model: Segmenter;
  settings: SegmentSettings;
  train: Dataset;
  test: Dataset;
  scale: PixelScale;
  bf16: boolean;
  /** Worker threads of the training loader. Default: the loader's. */
  workers: number | undefined;
  /** Hears what an evaluation found, before its scores are logged. */
  onMeasured: (measured: Measured) => Promise<void>;
  /** Told after each image of an evaluation. */
  onProgress: (done: number, total: number) => void;
}

/** Height and width of the training crops. */
export const cropOf = ({ crop }: Pick<SegmentSettings, "crop">): [number, number] =>
  typeof crop === "number" ? [crop, crop] : [...crop];

/** How the settings test. */
export function testOf(settings: SegmentSettings): SavedTest {
  const window = cropOf(settings);
  const { mode, stride, fit, flip, scales } = settings.test;
  const way = stride ?? Math.max(1, Math.floor((2 * Math.min(...window)) / 3));
  return { mode, window, stride: way, fit: fit ?? settings.fit, flip, scales };
}

/** The training views by the settings. */
export function trainingPlan(settings: SegmentSettings, { channels, mean, std }: PixelScale): SegmentationPlan {
  const { fit, ratio, catMaxRatio, flip, distort } = settings;
  const normalization = { mean, std };
  return segmentationPlan({ size: cropOf(settings), fit, ratio, catMaxRatio, flip, distort, channels, normalization });
}

/** The parameters that are trained, by layer-wise decay of the learning rate in the encoder and by weight decay. */
export function segmenterGroups(model: Segmenter, layerDecay: number): ParameterGroup[] {
  // The head alone has no layers to count.
  if (layerDecay === 1 || model.frozen) return decayGroups(model, "no-bias-norm-tokens");
  return encoderDecayGroups(model, { encoder: model.encoder, prefix: "backbone.encoder.", layerDecay });
}

/** @throws EvaluateError for a batch larger than the images, or an interval of evaluations that does not divide the training */
export class SegmentTask implements FitTask<RawBatch> {
  readonly model: Segmenter;
  readonly optimizer: AdamW;
  readonly lr: Schedule;
  /** The loop's epochs are the stretches between evaluations: protocols count steps. */
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  readonly evaluateEvery = 1;
  readonly clip?: number;
  readonly #parts: SegmentParts;
  readonly #plan: SegmentationPlan;
  #loader: Loader | undefined;

  constructor(parts: SegmentParts) {
    const { model, settings, train, scale } = parts;
    const { iterations, evaluateEvery, batchSize, weightDecay, betas, clip, layerDecay } = settings;
    if (batchSize > train.length) {
      throw new EvaluateError(
        `A batch has ${batchSize} images, but ${train.name} has ${train.length}; expected a batchSize of at most as many.`,
      );
    }
    const stretch = evaluateEvery === 0 ? iterations : evaluateEvery;
    if (iterations % stretch !== 0) {
      throw new EvaluateError(
        `evaluateEvery is ${evaluateEvery}, which does not divide the ${iterations} iterations; expected a divisor, or 0 for the end alone.`,
      );
    }
    this.#parts = parts;
    this.#plan = trainingPlan(settings, scale);
    this.model = model;
    this.batchSize = batchSize;
    this.stepsPerEpoch = stretch;
    this.epochs = iterations / stretch;
    this.lr = polySchedule(settings);
    this.optimizer = new AdamW(segmenterGroups(model, layerDecay), { lr: this.lr(0), weightDecay, betas });
    if (clip !== null) this.clip = clip;
  }

  /** The loader's own epochs, one after another, from the step on that the stretch has come to. */
  async *batches(stretch: number, fromStep: number): AsyncGenerator<RawBatch, void, void> {
    const { train, settings, workers } = this.#parts;
    const perEpoch = Math.floor(train.length / this.batchSize);
    let step = stretch * this.stepsPerEpoch + fromStep;
    const end = (stretch + 1) * this.stepsPerEpoch;
    this.#loader ??= createLoader({
      dataset: train,
      plan: this.#plan,
      batchSize: this.batchSize,
      seed: settings.seed,
      startAt: { epoch: Math.floor(step / perEpoch), batch: step % perEpoch },
      ...(workers !== undefined && { workers }),
    });
    while (step < end) {
      for await (const batch of this.#loader.epoch(Math.floor(step / perEpoch), step % perEpoch)) {
        yield batch;
        step++;
        if (step === end) return;
      }
    }
  }

  step(raw: RawBatch): { loss: Tensor; terms: Record<string, Tensor> } {
    const { settings, model } = this.#parts;
    const { images, labels } = toPixelTensors(raw, this.#plan);
    const { auxiliaryWeight } = settings.head;
    return segmentationLoss(model.call(images), labels, { auxiliaryWeight, mean: settings.lossMean });
  }

  async evaluate(): Promise<Scores> {
    const { model, test, scale, settings, bf16, onMeasured, onProgress } = this.#parts;
    const how = { ...testOf(settings), bf16, pictures: settings.pictures, onProgress };
    const measured = await measureSegmenter(model, test, scale, how);
    await onMeasured(measured);
    const { mIoU, pixelAccuracy, meanAccuracy } = measured.scores;
    return { mIoU, pixelAccuracy, meanAccuracy };
  }

  async close(): Promise<void> {
    await this.#loader?.close();
  }
}
