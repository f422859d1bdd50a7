// What a loader makes of each sample, whichever task it is for: views of an image, or a crop with the classes of its pixels.
import { Augmenter } from "./augment.js";
import type { Pixels } from "./pixels.js";
import { SegmentationMaker } from "./segmentation/maker.js";
import { checkSegmentationPlan, type SegmentationPlan } from "./segmentation/plan.js";
import type { Size } from "./transforms.js";
import { checkPlan, type ViewPlan } from "./views.js";

export type Plan = ViewPlan | SegmentationPlan;

/** Makes all outputs of one sample. One per thread; not re-entrant. */
export interface Maker {
  /**
   * Writes element `row` of a batch of `rows`: `outs[o]` is output o, laid out [count][rows][channels][height][width].
   * `sample` is the number the draws are keyed by.
   */
  run(image: Pixels, epoch: number, sample: number, outs: readonly Uint8Array[], row: number, rows: number): void;
}

/** One array of bytes that a sample becomes. */
export interface PlanOutput {
  readonly name: string;
  readonly count: number;
  readonly channels: number;
  readonly size: Size;
}

const isSegmentation = (plan: Plan): plan is SegmentationPlan => "kind" in plan && plan.kind === "segmentation";

export function makerFor(plan: Plan, seed: number): Maker {
  return isSegmentation(plan) ? new SegmentationMaker(plan, seed) : new Augmenter(plan, seed);
}

export function outputsOf(plan: Plan): PlanOutput[] {
  const { channels } = plan;
  if (!isSegmentation(plan)) return plan.views.map(({ name, size, crops }) => ({ name, count: crops.length, channels, size }));
  const { size } = plan;
  return [
    { name: "image", count: 1, channels, size },
    { name: "labels", count: 1, channels: 1, size },
  ];
}

/** Bytes of one sample. */
export function outputBytes({ count, channels, size }: PlanOutput): number {
  return count * channels * size[0] * size[1];
}

/** Refuses a plan that cannot be carried out, saying why. */
export function checkAnyPlan(plan: Plan): void {
  if (isSegmentation(plan)) checkSegmentationPlan(plan);
  else checkPlan(plan);
}
