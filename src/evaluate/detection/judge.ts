// A detector measured: what it finds in images, COCO's measures of that, pictures.
import { join } from "node:path";
import { BadSampleError, type CocoDataset } from "../../data/index.js";
import { writePng } from "../../draw/index.js";
import { replaceText } from "../../files.js";
import type { Scores } from "../../fit/index.js";
import { EvaluateError } from "../errors.js";
import { evaluateCoco } from "./coco-eval.js";
import { detectObjects } from "./detect.js";
import { checkCategories, type Detector } from "./detector.js";
import { detectionPicture } from "./pictures.js";
import type { CocoKind, CocoResult } from "./results.js";

/** Images that are looked at together. */
const BATCH = 4;

export interface TestDetectorOptions {
  detector: Detector;
  test: CocoDataset;
  /** Compute in bfloat16 where it is safe. Default false. */
  bf16?: boolean;
  /** Worker threads. Default: the loader's. */
  workers?: number | undefined;
  /** The folder for results.json (COCO's form) and images/; nothing is written without it. */
  out?: string;
  /** Pictures of so many of the images. Default 4. */
  pictures?: number;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/** @throws EvaluateError where the images have other categories than the detector knows */
export async function testDetector(options: TestDetectorOptions): Promise<{ scores: Scores; results: CocoResult[] }> {
  const { detector, test, bf16 = false, workers, out, pictures = 4, onProgress } = options;
  checkCategories(detector.config.categories, test.categories, test.name);
  checkTruth(test, detector.config.detector.roi?.masks !== false);
  const results = await detectObjects(detector, test, { batchSize: BATCH, bf16, workers, ...(onProgress && { onProgress }) });
  if (out !== undefined) {
    replaceText(join(out, "results.json"), `${JSON.stringify(results)}\n`);
    for (let i = 0; i < Math.min(pictures, test.length); i++) await draw(out, test, i, results);
  }
  return { scores: detectionScores(test, results, detector), results };
}

async function draw(out: string, test: CocoDataset, index: number, results: readonly CocoResult[]): Promise<void> {
  try {
    await writePng(join(out, "images", `image-${test.imageId(index)}.png`), await detectionPicture(test, index, results));
  } catch (error) {
    // An image that cannot be read was left out of the results too.
    if (!(error instanceof BadSampleError)) throw error;
  }
}

/** @throws EvaluateError where masks are to be compared with objects that have none */
export function checkTruth(test: CocoDataset, masks: boolean): void {
  if (!masks) return;
  for (let image = 0; image < test.length; image++) {
    const bare = test.objects(image).find((object) => test.shape(object) === undefined);
    if (bare === undefined) continue;
    throw new EvaluateError(
      `Annotation ${test.objectId(bare)} of ${test.name} has no segmentation, so masks cannot be judged by it; expected one, or masks=false.`,
    );
  }
}

/** COCO's measures by kind and name, shares of 1: boxAP, boxAP50, ..., maskAP, ... */
export function detectionScores(test: CocoDataset, results: readonly CocoResult[], { config }: Detector): Scores {
  const kinds: CocoKind[] = config.detector.roi?.masks === false ? ["box"] : ["box", "mask"];
  const named = kinds.flatMap((kind) => {
    const { scores } = evaluateCoco(test, results, kind);
    return Object.entries(scores).map(([name, value]): [string, number] => [`${kind}${name}`, value]);
  });
  return Object.fromEntries(named);
}
