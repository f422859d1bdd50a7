// Training a detector as a task for the loop that trains: batches of images with their objects, the sum of Mask R-CNN's losses, COCO's measures.
import {
  type CocoDataset,
  createDetectionLoader,
  type DetectionLoader,
  type DetectionPlan,
  detectionPlan,
  detectionTensors,
  type RawDetectionBatch,
} from "../../data/index.js";
import type { FitTask, Scores } from "../../fit/index.js";
import type { MaskRcnn } from "../../models/index.js";
import { AdamW, cosine, linear, type ParameterGroup, type Schedule } from "../../optim/index.js";
import type { Tensor } from "../../torch/index.js";
import { encoderDecayGroups } from "../encoder-layers.js";
import { EvaluateError } from "../errors.js";
import type { DetectionSettings } from "./detection-settings.js";
import { type Detector, divisorOf } from "./detector.js";
import { testDetector } from "./judge.js";

export interface DetectionParts {
  detector: Detector;
  settings: DetectionSettings;
  train: CocoDataset;
  test: CocoDataset;
  bf16: boolean;
  /** Worker threads. Default: the loader's. */
  workers: number | undefined;
  /** The folder for results.json and images/. */
  out: string;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/** The settings' learning rate by step: a linear rise, then steps or a cosine. */
export function detectionRate(settings: DetectionSettings, stepsPerEpoch: number): Schedule {
  const { lr, schedule, milestones, gamma, minLr, warmupSteps, warmupFactor, epochs } = settings;
  const total = epochs * stepsPerEpoch;
  // A short training has a short rise.
  const rise = Math.min(warmupSteps, Math.floor(total / 4));
  return (step) => {
    const passed = milestones.filter((epoch) => step >= epoch * stepsPerEpoch).length;
    const full = schedule === "step" ? lr * gamma ** passed : cosine(lr, Math.min(minLr, lr), step / total);
    return step < rise ? full * linear(warmupFactor, 1, step / rise) : full;
  };
}

/** The parameters that are trained, by layer-wise decay of the learning rate in the encoder and by weight decay. */
export function detectorGroups(model: MaskRcnn, layerDecay: number): ParameterGroup[] {
  return encoderDecayGroups(model, { encoder: model.backbone.body.encoder, prefix: "backbone.body.encoder.", layerDecay });
}

/** How a training shows images. */
export function trainPlan(settings: DetectionSettings, { model, config }: Detector): DetectionPlan {
  const { shorter, longest, jitter, flip, masks } = settings;
  const { mean, std } = config.normalization;
  const resize = jitter
    ? { jitter: jitter.range, size: [jitter.size, jitter.size] as const }
    : { shorter, longest: Math.max(longest, ...shorter) };
  return detectionPlan({ resize, flip, masks, divisor: divisorOf(model), normalization: { mean: [...mean], std: [...std] } });
}

export class DetectionTask implements FitTask<RawDetectionBatch> {
  readonly model: MaskRcnn;
  readonly optimizer: AdamW;
  readonly lr: Schedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  readonly evaluateEvery: number;
  readonly clip?: number;
  readonly #parts: DetectionParts;
  readonly #plan: DetectionPlan;
  #loader: DetectionLoader | undefined;

  /** @throws EvaluateError for a batch larger than the images */
  constructor(parts: DetectionParts) {
    const { detector, settings, train } = parts;
    const { batchSize, epochs, clip, layerDecay, weightDecay, betas, evaluateEvery } = settings;
    if (batchSize > train.length) {
      throw new EvaluateError(
        `A batch has ${batchSize} images, but ${train.name} has ${train.length} to learn from; expected a batchSize of at most as many.`,
      );
    }
    this.#parts = parts;
    this.#plan = trainPlan(settings, detector);
    this.model = detector.model;
    this.epochs = epochs;
    this.batchSize = batchSize;
    this.stepsPerEpoch = Math.floor(train.length / batchSize);
    this.evaluateEvery = evaluateEvery;
    this.lr = detectionRate(settings, this.stepsPerEpoch);
    this.optimizer = new AdamW(detectorGroups(this.model, layerDecay), { lr: this.lr(0), weightDecay, betas });
    if (clip !== null) this.clip = clip;
  }

  batches(epoch: number, fromStep: number): AsyncGenerator<RawDetectionBatch, void, void> {
    const { train, settings, workers } = this.#parts;
    this.#loader ??= createDetectionLoader({
      dataset: train,
      plan: this.#plan,
      batchSize: this.batchSize,
      seed: settings.seed,
      startAt: { epoch, batch: fromStep },
      ...(workers !== undefined && { workers }),
    });
    return this.#loader.epoch(epoch, fromStep);
  }

  step(raw: RawDetectionBatch): { loss: Tensor; terms: Record<string, Tensor> } {
    const { images, samples } = detectionTensors(raw, this.#plan);
    const terms = this.model.losses(images, samples);
    const loss = Object.values(terms).reduce((sum, each) => sum.add(each));
    return { loss, terms };
  }

  async evaluate(): Promise<Scores> {
    const { settings, ...rest } = this.#parts;
    return (await testDetector({ ...rest, pictures: settings.pictures })).scores;
  }

  async close(): Promise<void> {
    await this.#loader?.close();
  }
}
