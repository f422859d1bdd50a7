// A detector and the names of what it finds: made of an encoder, written to a file, read again.
import type { CocoCategory, DetectionPlan, Normalization } from "../../data/index.js";
import { detectionPlan } from "../../data/index.js";
import { tesseraVersion } from "../../fit/index.js";
import {
  createBackbone,
  createPyramid,
  type Encoder,
  MaskRcnn,
  type MaskRcnnConfig,
  SwinTransformer,
  VisionTransformer,
} from "../../models/index.js";
import { readSafetensors, readSafetensorsHeader, tidy, writeSafetensors } from "../../torch/index.js";
import { EvaluateError } from "../errors.js";
import type { DetectionSettings } from "./detection-settings.js";

/** What the metadata of a detector's file say that it is. */
const KIND = "detect";

/** Everything that a detector is made of beside its weights, as plain JSON. */
export interface DetectorConfig {
  /** The backbone's name and options. */
  encoder: Parameters<typeof createBackbone>[0];
  levels: readonly number[];
  detector: MaskRcnnConfig;
  /** By label. */
  categories: readonly CocoCategory[];
  normalization: { mean: readonly number[]; std: readonly number[] };
  /** The size at which images are looked at. */
  testShorter: number;
  longest: number;
}

export interface Detector {
  model: MaskRcnn;
  config: DetectorConfig;
}

/** Mask R-CNN on an encoder, which it takes over, by the settings. */
export function detectorOn(
  encoder: Encoder,
  settings: DetectionSettings,
  categories: readonly CocoCategory[],
  { mean, std }: Normalization,
): Detector {
  if (!(encoder instanceof VisionTransformer || encoder instanceof SwinTransformer)) {
    throw new EvaluateError("Only a Vision Transformer or a Swin of this library can be the backbone of a detector.");
  }
  if (encoder.channels !== 3) {
    throw new EvaluateError(`The encoder takes images of ${encoder.channels} channel(s); detection needs one of 3.`);
  }
  const body = createPyramid(encoder, { levels: settings.levels ?? undefined });
  const { aligned, classAgnosticBoxes, classAgnosticMasks, boxHead, boxWidth, boxLoss, masks, maskLayers } = settings;
  const detector: MaskRcnnConfig = {
    classes: categories.length,
    channels: settings.channels,
    anchorSizes: [...body.strides, 2 * body.strides.at(-1)!].map((stride) => settings.anchorCells.map((cells) => cells * stride)),
    anchorRatios: settings.anchorRatios,
    rpn: {
      preNmsTopN: settings.proposalsBefore,
      postNmsTopN: settings.proposalsAfter,
      batchSizePerImage: settings.anchorSamples,
      boxLoss,
    },
    roi: {
      aligned,
      boxHead,
      boxWidth,
      boxLoss,
      masks,
      maskLayers,
      classAgnosticBoxes,
      classAgnosticMasks,
      batchSizePerImage: settings.boxSamples,
      positiveFraction: settings.boxFraction,
      scoreThresh: settings.scoreThreshold,
      nmsThresh: settings.nmsThreshold,
      detectionsPerImg: settings.detections,
    },
  };
  const name = encoder instanceof SwinTransformer ? "swin" : "vit";
  return {
    model: new MaskRcnn(body, detector),
    config: {
      encoder: { name, ...encoder.config } as DetectorConfig["encoder"],
      levels: body.levels,
      detector,
      categories: categories.map(({ id, name: category }) => ({ id, name: category })),
      normalization: { mean: [...mean], std: [...std] },
      testShorter: settings.testShorter,
      longest: settings.longest,
    },
  };
}

/** How a detector looks at images: sizes, padding to its coarsest cells, normalisation; nothing by chance. */
export function testPlan({ model, config }: Detector): DetectionPlan {
  const { testShorter, longest, normalization } = config;
  const resize = { shorter: [testShorter], longest: Math.max(longest, testShorter) };
  return detectionPlan({ resize, masks: false, divisor: divisorOf(model), normalization: { mean: [...normalization.mean], std: [...normalization.std] } }); // biome-ignore format: one thought
}

/** Batches are padded to whole cells of the coarsest map. */
export function divisorOf(model: MaskRcnn): number {
  return model.backbone.body.strides.at(-1)!;
}

/** Writes a detector with everything that is needed to use it again. */
export function exportDetector(path: string, { model, config }: Detector): void {
  const { mean, std } = config.normalization;
  writeSafetensors(path, model.stateDict(), {
    format: "pt",
    tessera: tesseraVersion,
    evaluation: KIND,
    mean: JSON.stringify(mean),
    std: JSON.stringify(std),
    detector: JSON.stringify(config),
  });
}

/** Whether a file is a detector that exportDetector wrote. */
export function isDetectorFile(path: string): boolean {
  return readSafetensorsHeader(path).metadata.evaluation === KIND;
}

/** Reads a detector that exportDetector wrote. @throws EvaluateError where a file is none */
export function loadDetector(path: string): Detector {
  return tidy(() => {
    const { tensors, metadata } = readSafetensors(path);
    if (metadata.evaluation !== KIND || metadata.detector === undefined) {
      throw new EvaluateError(`${path} holds no detector; expected the export of \`tessera evaluate detect\`.`);
    }
    try {
      const config = JSON.parse(metadata.detector) as DetectorConfig;
      const model = new MaskRcnn(createPyramid(createBackbone(config.encoder), { levels: config.levels }), config.detector);
      model.loadStateDict(tensors);
      return { model: model.eval(), config };
    } catch (cause) {
      throw new EvaluateError(`${path} cannot be used as a detector: ${(cause as Error).message}`, { cause });
    }
  });
}

/** @throws EvaluateError where images have other categories than the known ones, or in another order */
export function checkCategories(known: readonly CocoCategory[], found: readonly CocoCategory[], whose: string): void {
  const said = (each: CocoCategory | undefined) => (each ? `${each.id} "${each.name}"` : "missing");
  for (let i = 0; i < Math.max(known.length, found.length); i++) {
    const [expected, given] = [said(known[i]), said(found[i])];
    if (expected === given) continue;
    throw new EvaluateError(
      `The categories of ${whose} are not those that are learnt: category ${i + 1} is ${given}; expected ${expected}.`,
    );
  }
}
