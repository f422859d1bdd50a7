// Fine-tuning as a task for the loop that trains: batches of augmented images, mixed and with soft targets, and the scores of the test images.
import {
  createLoader,
  type Dataset,
  horizontalFlip,
  type Loader,
  namedStream,
  parseRandAugment,
  type RawBatch,
  Rng,
  randAugment,
  randomResizedCrop,
  toTensors,
  type ViewPlan,
} from "../data/index.js";
import type { FitProgress, FitTask, Scores } from "../fit/index.js";
import { AdamW, Ema, type Schedule, schedule } from "../optim/index.js";
import { autocast, crossEntropy, fromTypedArray, noGrad, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { evalMode, viewOf } from "./features.js";
import { type Classifier, classifierGroups } from "./finetune-model.js";
import type { FinetuneSettings } from "./finetune-settings.js";
import { drawMix, mixImages, softTargets } from "./mixup.js";
import { RandomErasing } from "./random-erasing.js";
import { type Confusion, confusionOf, placesOf } from "./scores.js";
import { turn } from "./turn.js";

const MIX_STREAM = namedStream("mixup");

/** What a fine-tuning is made of. */
export interface FinetuneParts {
  model: Classifier;
  /** Another one of the same architecture for averaged weights, where settings ask for them. */
  average: Classifier | undefined;
  settings: FinetuneSettings;
  train: Dataset;
  test: Dataset;
  classes: number;
  /** One view without chance: size, channels and normalisation. */
  plan: ViewPlan;
  /** Worker threads of each loader. Default: the loader's. */
  workers: number | undefined;
  /** Evaluate in bfloat16. */
  bf16: boolean;
  /** Told of the confusion of each evaluation, the model's. */
  onConfusion: (confusion: Confusion) => void;
}

/** The settings' crops, flips and RandAugment at the size and with the normalisation of the images that are judged. */
export function trainingViews({ crop, flip, randAugment: text }: FinetuneSettings, plan: ViewPlan): ViewPlan {
  const { channels, mean, std, views } = plan;
  const { name, size } = views[0]!;
  const fill = mean.map((value) => Math.min(255, Math.max(0, Math.round(255 * value))));
  const steps = [
    randomResizedCrop(crop),
    ...(flip > 0 ? [horizontalFlip({ p: flip })] : []),
    ...(text === null ? [] : [randAugment({ ...parseRandAugment(text), interpolation: crop.interpolation, fill })]),
  ];
  return { channels, mean, std, views: [{ name, size, crops: [steps] }] };
}

/** The settings' learning rate by step. */
export function finetuneRate(settings: FinetuneSettings, stepsPerEpoch: number): Schedule {
  const { baseLr, batchSize, minLr, warmupEpochs, warmupLr, per, epochs } = settings;
  const lr = (baseLr * batchSize) / 256;
  const warmup = { epochs: warmupEpochs, from: Math.min(warmupLr, lr) };
  return schedule(
    { kind: "cosine", from: lr, to: Math.min(minLr, lr), warmup, per },
    { steps: epochs * stepsPerEpoch, stepsPerEpoch },
  );
}

/** @throws EvaluateError for a batch larger than the images */
export class FinetuneTask implements FitTask<RawBatch> {
  readonly model: Classifier;
  readonly optimizer: AdamW;
  readonly lr: Schedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  readonly evaluateEvery: number;
  readonly clip?: number;
  readonly ema?: Ema;
  readonly emaDecay?: number;
  readonly #parts: FinetuneParts;
  readonly #views: ViewPlan;
  readonly #erasing: RandomErasing;
  readonly #rng: Rng;
  #loader: Loader | undefined;

  constructor(parts: FinetuneParts) {
    const { model, average, settings, train, plan } = parts;
    const { batchSize, epochs, betas, weightDecay, clip, ema, seed, layerDecay, evaluateEvery, erase } = settings;
    if (batchSize > train.length) {
      throw new EvaluateError(
        `A batch has ${batchSize} images, but ${train.name} has ${train.length}; expected a batchSize of at most as many.`,
      );
    }
    this.#parts = parts;
    this.#views = trainingViews(settings, plan);
    this.#erasing = new RandomErasing(erase, seed);
    this.#rng = new Rng(seed);
    this.model = model;
    this.epochs = epochs;
    this.batchSize = batchSize;
    this.stepsPerEpoch = Math.floor(train.length / batchSize);
    this.evaluateEvery = evaluateEvery;
    this.lr = finetuneRate(settings, this.stepsPerEpoch);
    this.optimizer = new AdamW(classifierGroups(model, layerDecay), { lr: this.lr(0), weightDecay, betas });
    if (clip !== null) this.clip = clip;
    if (ema !== null && average) {
      this.ema = new Ema(average, model).start();
      this.emaDecay = ema;
    }
  }

  batches(epoch: number, fromStep: number): AsyncGenerator<RawBatch, void, void> {
    const { train, settings, workers } = this.#parts;
    this.#loader ??= createLoader({
      dataset: train,
      plan: this.#views,
      batchSize: this.batchSize,
      seed: settings.seed,
      startAt: { epoch, batch: fromStep },
      ...(workers !== undefined && { workers }),
    });
    return this.#loader.epoch(epoch, fromStep);
  }

  step(raw: RawBatch, at: FitProgress): { loss: Tensor; terms: Record<string, Tensor> } {
    const { settings, classes } = this.#parts;
    const { labelSmoothing: smoothing, microBatch } = settings;
    const { views, index, labels } = toTensors(raw, this.#views);
    const images = viewOf(views, undefined);
    this.#erasing.apply(images, at.epoch, index);
    const [height, width] = this.#views.views[0]!.size;
    const { mixup, cutmix, switchProbability, mixProbability } = settings;
    const how = { mixup, cutmix, switchProbability, probability: mixProbability };
    const mix = drawMix(this.#rng.at(0, at.step, MIX_STREAM), how, [height, width]);
    const targets = softTargets(fromTypedArray(labels!).to("int64"), classes, { smoothing, mix });
    const given = mix ? mixImages(images, mix) : images;
    const loss = this.#loss(given, targets, microBatch ?? this.batchSize);
    return { loss, terms: {} };
  }

  /** The mean loss. Of several parts all but the last have gone backward already, so that only one of them is in memory. */
  #loss(images: Tensor, targets: Tensor, most: number): Tensor {
    const count = images.size(0);
    let before: Tensor | undefined;
    for (let from = 0; ; from += most) {
      const rows = Math.min(most, count - from);
      const scores = this.model.call(images.narrow(0, from, rows));
      const mean = crossEntropy(scores, targets.narrow(0, from, rows));
      if (rows === count) return mean;
      const part = mean.mul(rows / count);
      if (from + rows === count) return part.add(before!);
      autocast({ enabled: false }, () => part.backward());
      before = before ? before.add(part.detach()) : part.detach();
    }
  }

  async evaluate(): Promise<Scores> {
    const { model, average, onConfusion } = this.#parts;
    const [own, averaged] = await judge(average ? [model, average] : [model], this.#parts);
    const { top1, top5, loss, confusion } = own!;
    onConfusion(confusion);
    return { top1, top5, loss, ...(averaged && { averagedTop1: averaged.top1, averagedTop5: averaged.top5 }) };
  }

  async close(): Promise<void> {
    await this.#loader?.close();
  }
}

interface Judged {
  /** Shares from 0 to 1. */
  top1: number;
  top5: number;
  /** Mean cross entropy. */
  loss: number;
  confusion: Confusion;
}

/** Scores of classifiers on the test images, each image once, in evaluation mode. */
export async function judge(
  models: readonly Classifier[],
  { test, plan, classes, bf16, workers }: Pick<FinetuneParts, "test" | "plan" | "classes" | "bf16" | "workers">,
): Promise<Judged[]> {
  const loader = createLoader({
    dataset: test,
    plan,
    batchSize: Math.min(128, test.length),
    shuffle: false,
    dropLast: false,
    ...(workers !== undefined && { workers }),
  });
  const restore = models.map(evalMode);
  const sums = models.map(() => ({ top1: 0, top5: 0, loss: 0, said: [] as number[] }));
  const truth: number[] = [];
  try {
    for await (const raw of loader.epoch(0)) {
      tidy(() =>
        noGrad(() => {
          const { views, labels } = toTensors(raw, plan);
          const images = viewOf(views, undefined);
          const right = fromTypedArray(labels!).to("int64");
          truth.push(...labels!);
          for (const [i, model] of models.entries()) {
            const scores = bf16 ? autocast({}, () => model.call(images)) : model.call(images);
            const places = placesOf(scores, right);
            const sum = sums[i]!;
            sum.top1 += places.lt(1).to("int64").sum().item();
            sum.top5 += places.lt(5).to("int64").sum().item();
            sum.loss += crossEntropy(scores, right, { reduction: "sum" }).item();
            sum.said.push(...scores.argmax(-1).toArray());
          }
        }),
      );
      // Batches that are ready are promises already kept: without this turn of the event loop no signal would be heard.
      await turn();
    }
  } finally {
    for (const each of restore) each();
    await loader.close();
  }
  const count = truth.length;
  const labels = Int32Array.from(truth);
  return sums.map(({ top1, top5, loss, said }) => ({
    top1: top1 / count,
    top5: top5 / count,
    loss: loss / count,
    confusion: confusionOf(labels, Int32Array.from(said), classes),
  }));
}
