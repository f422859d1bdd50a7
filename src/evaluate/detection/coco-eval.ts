// COCO's measures of detection and instance segmentation: average precision and recall of boxes or masks. The numbers are those of the field's
// own tool, pycocotools, on the same results (tests/coco-eval.test.ts).
import { boxOverlaps, type CocoDataset, maskArea, maskOverlaps, type Rle } from "../../data/index.js";
import { EvaluateError } from "../errors.js";
import { areaNames, countTruths, matchObjects, type Truths, thresholds } from "./matching.js";
import { precisionRecall } from "./precision.js";
import { type CocoKind, type CocoResult, idsOf, maskOf, wrongWith } from "./results.js";

/** Shares of 1, by COCO's names; -1 where there is nothing to be found, as in the field's tables. */
export interface CocoScores {
  /** Mean of the average precisions at overlaps of 0.50, 0.55, ... 0.95 and over categories: "mAP". */
  readonly AP: number;
  readonly AP50: number;
  readonly AP75: number;
  /** Of objects below 32 x 32 pixels, up to 96 x 96, and larger. */
  readonly APs: number;
  readonly APm: number;
  readonly APl: number;
  /** Recall by the 1, 10 and 100 surest of each image and category, mean over overlaps and categories. */
  readonly AR1: number;
  readonly AR10: number;
  readonly AR100: number;
  readonly ARs: number;
  readonly ARm: number;
  readonly ARl: number;
}

export interface CocoCategoryScores {
  readonly id: number;
  readonly name: string;
  /** True objects that count (no crowds). */
  readonly objects: number;
  readonly AP: number;
  readonly AP50: number;
  readonly AP75: number;
  readonly AR100: number;
}

export interface CocoEvaluation {
  readonly kind: CocoKind;
  readonly images: number;
  readonly objects: number;
  readonly results: number;
  readonly scores: CocoScores;
  /** In the order of their labels. */
  readonly categories: readonly CocoCategoryScores[];
}

/** At most so many results count, of each image and category. */
const MOST = 100;

/**
 * Compares results with annotations by COCO's rules: per image and category the 100 surest are matched with the truth; crowds and objects of
 * another size count neither way; among equal scores the first in the list comes first, images by their ids.
 *
 * @param truth every image counts, also those without results @param kind by boxes, or by masks, whose areas then tell small from large
 * @throws EvaluateError for a result of an image or category that the truth does not have, or without the box or mask that is compared
 */
export function evaluateCoco(truth: CocoDataset, results: readonly CocoResult[], kind: CocoKind = "box"): CocoEvaluation {
  const groups = groupResults(truth, results, kind);
  if (kind === "mask") checkMasks(truth);
  const objects = objectsByLabel(truth);
  const tallies = truth.categories.map((_, label) => tally(truth, results, kind, objects[label]!, groups[label]!));
  const mean = (of: (each: Tally) => number, area = 0): number => {
    const counted = tallies.filter(({ truths }) => truths[area]! > 0);
    return counted.length === 0 ? -1 : counted.reduce((sum, each) => sum + of(each), 0) / counted.length;
  };
  const [all, small, medium, large] = [0, 1, 2, 3] as const;
  const [at50, at75] = [0, 5];
  const AP = (area: number) => mean((each) => average(each.precision[area]!), area);
  const AR = (area: number) => mean((each) => average(each.recall[area]!), area);
  return {
    kind,
    images: truth.length,
    objects: tallies.reduce((sum, { truths }) => sum + truths[all]!, 0),
    results: results.length,
    scores: {
      AP: AP(all),
      AP50: mean((each) => each.precision[all]![at50]!),
      AP75: mean((each) => each.precision[all]![at75]!),
      APs: AP(small),
      APm: AP(medium),
      APl: AP(large),
      AR1: mean((each) => average(each.recallOf1)),
      AR10: mean((each) => average(each.recallOf10)),
      AR100: AR(all),
      ARs: AR(small),
      ARm: AR(medium),
      ARl: AR(large),
    },
    categories: tallies.map(({ precision, recall, truths }, label) => {
      const { id, name } = truth.categories[label]!;
      const shown = (value: number): number => (truths[all]! > 0 ? value : -1);
      return {
        id,
        name,
        objects: truths[all]!,
        AP: shown(average(precision[all]!)),
        AP50: shown(precision[all]![at50]!),
        AP75: shown(precision[all]![at75]!),
        AR100: shown(average(recall[all]!)),
      };
    }),
  };
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The results of one image and category, surest first, at most 100. */
interface Group {
  readonly image: number;
  readonly results: readonly number[];
}

/** Results by label and image; images in the order of their ids. */
function groupResults(truth: CocoDataset, results: readonly CocoResult[], kind: CocoKind): Group[][] {
  const ids = idsOf(truth);
  const byLabel = truth.categories.map(() => new Map<number, number[]>());
  for (const [i, result] of results.entries()) {
    const wrong = wrongWith(result, ids);
    if (wrong) throw new EvaluateError(`Result ${i}: ${wrong}.`);
    if (kind === "box" && result.bbox === undefined) {
      throw new EvaluateError(`Result ${i} has no bbox, so boxes cannot be compared.`);
    }
    const images = byLabel[ids.labels.get(result.category_id)!]!;
    const image = ids.images.get(result.image_id)!;
    const group = images.get(image);
    if (group) group.push(i);
    else images.set(image, [i]);
  }
  const surer = (a: number, b: number): number => results[b]!.score - results[a]!.score || a - b;
  return byLabel.map((images) =>
    [...images]
      .map(([image, group]) => ({ image, results: group.sort(surer).slice(0, MOST) }))
      .sort((a, b) => truth.imageId(a.image) - truth.imageId(b.image)),
  );
}

function checkMasks(truth: CocoDataset): void {
  for (let image = 0; image < truth.length; image++) {
    const bare = truth.objects(image).find((object) => truth.shape(object) === undefined);
    if (bare === undefined) continue;
    throw new EvaluateError(
      `Annotation ${truth.objectId(bare)} of ${truth.name} has no segmentation, so masks cannot be compared with it; compare boxes.`,
    );
  }
}

/** What a category comes to. The first index is the range of areas, the second the threshold. */
interface Tally {
  readonly truths: Int32Array;
  readonly precision: readonly Float64Array[];
  readonly recall: readonly Float64Array[];
  readonly recallOf1: Float64Array;
  readonly recallOf10: Float64Array;
}

function tally(
  truth: CocoDataset,
  results: readonly CocoResult[],
  kind: CocoKind,
  objects: ReadonlyMap<number, readonly number[]>,
  groups: readonly Group[],
): Tally {
  const found = groups.reduce((sum, group) => sum + group.results.length, 0);
  const verdicts = { matched: new Uint16Array(4 * found), ignored: new Uint16Array(4 * found) };
  const ranks = new Uint16Array(found);
  const scores = new Float64Array(found);
  const truths = new Int32Array(4);
  for (const those of objects.values()) countTruths(truthsOf(truth, those), truths);
  let first = 0;
  for (const { image, results: own } of groups) {
    const those = objects.get(image) ?? [];
    const { overlaps, sizes } = compare(truth, results, kind, image, own, those);
    matchObjects(truthsOf(truth, those), overlaps, sizes, verdicts, first);
    for (const [rank, i] of own.entries()) {
      ranks[first + rank] = rank;
      scores[first + rank] = results[i]!.score;
    }
    first += own.length;
  }
  const order = Uint32Array.from({ length: found }, (_, i) => i).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const curves = (area: number, most = MOST) =>
    thresholds.map((_, threshold) =>
      truths[area] === 0
        ? { precision: -1, recall: -1 }
        : precisionRecall(order, verdicts, ranks, { area, threshold, most, truths: truths[area]! }),
    );
  const byArea = areaNames.map((_, area) => curves(area));
  const recallOf = (most: number) => Float64Array.from(curves(0, most), ({ recall }) => recall);
  return {
    truths,
    precision: byArea.map((each) => Float64Array.from(each, ({ precision }) => precision)),
    recall: byArea.map((each) => Float64Array.from(each, ({ recall }) => recall)),
    recallOf1: recallOf(1),
    recallOf10: recallOf(10),
  };
}

function truthsOf(truth: CocoDataset, objects: readonly number[]): Truths {
  const areas = objects.map((object) => truth.area(object));
  return { count: objects.length, areas, crowd: objects.map((object) => Number(truth.isCrowd(object))) };
}

/** True objects by label and image. */
function objectsByLabel(truth: CocoDataset): Map<number, number[]>[] {
  const byLabel = truth.categories.map(() => new Map<number, number[]>());
  for (let image = 0; image < truth.length; image++) {
    for (const object of truth.objects(image)) {
      const images = byLabel[truth.labelOf(object)]!;
      const those = images.get(image);
      if (those) those.push(object);
      else images.set(image, [object]);
    }
  }
  return byLabel;
}

/** Overlaps of found with true objects, and the areas of the found ones. */
function compare(
  truth: CocoDataset,
  results: readonly CocoResult[],
  kind: CocoKind,
  image: number,
  found: readonly number[],
  objects: readonly number[],
): { overlaps: Float64Array; sizes: number[] } {
  const crowd = objects.map((object) => truth.isCrowd(object));
  if (kind === "box") {
    const boxes = found.map((i) => results[i]!.bbox!);
    const overlaps = boxOverlaps(
      boxes.flat(),
      objects.flatMap((object) => truth.box(object)),
      crowd,
    );
    return { overlaps, sizes: boxes.map(([, , width, height]) => width! * height!) };
  }
  const masks: Rle[] = found.map((i) => maskOf(results[i]!, i, truth, image));
  const overlaps = maskOverlaps(
    masks,
    objects.map((object) => truth.mask(object)!),
    crowd,
  );
  return { overlaps, sizes: masks.map(maskArea) };
}
