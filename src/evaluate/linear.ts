// Linear probes: classifiers on frozen features, trained side by side by a protocol.
import { Generator, type Tensor } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { pixelFeatures } from "./features.js";
import { learnableClasses } from "./labels.js";
import { LinearGrid } from "./linear-grid.js";
import { type LinearOptions, type LinearPlan, linearPlan } from "./linear-plan.js";
import { TableData } from "./probe-data.js";
import type { ProbeResult } from "./probe-judge.js";
import { membersOf } from "./probe-plan.js";
import { type ProbeRunResult, runProbe } from "./probe-run.js";
import type { ProbeImages } from "./probe-source.js";
import { type TrainingProgress, type TrainProbeOptions, trainProbe } from "./probe-train.js";
import { readoutOf } from "./readout.js";

export interface LinearResult extends ProbeResult {
  /** The protocol with every number filled in. */
  readonly plan: LinearPlan;
  /** Numbers of a feature. */
  readonly width: number;
}

/** Labelled features that were taken before. */
export interface LabelledFeatures {
  /** [N, D] */
  features: Tensor;
  /** Class numbers from 0. */
  labels: ArrayLike<number>;
}

export interface FitLinearOptions extends Pick<TrainProbeOptions, "onProgress" | "signal"> {
  train: LabelledFeatures;
  test: LabelledFeatures;
  classes: number;
  /** Default: ours. */
  protocol?: LinearOptions;
}

/**
 * A linear probe on features that are there already.
 *
 * @throws EvaluateError for features, labels or options that do not fit
 */
export async function fitLinear({ train, test, classes, protocol = {}, ...watch }: FitLinearOptions): Promise<LinearResult> {
  const sizes = [train, test].map(({ features }) => features.shape);
  if (sizes.some((shape) => shape.length !== 2) || sizes[0]![1] !== sizes[1]![1]) {
    const given = sizes.map((shape) => `[${shape.join(", ")}]`).join(" and ");
    throw new EvaluateError(
      `The features to learn from and to be judged by are ${given}; expected [images, numbers], as many numbers in both.`,
    );
  }
  for (const { labels } of [train, test]) {
    const wrong = Array.from(labels).findIndex((label) => !(Number.isInteger(label) && label >= 0 && label < classes));
    if (wrong >= 0)
      throw new EvaluateError(`labels[${wrong}] is ${labels[wrong]}; expected 0 to ${classes - 1} for ${classes} classes.`);
  }
  const plan = linearPlan(protocol, sizes[0]![0]!, "features");
  const width = sizes[0]![1]!;
  const tables = [train, test].map(({ features, labels }) => new TableData([features.alias()], labels, plan));
  const grid = gridOf(plan, width, classes);
  try {
    return { ...(await trainProbe(grid, { plan, train: tables[0]!, test: tables[1]!, ...watch })), plan, width };
  } finally {
    for (const each of [...tables, grid]) each.dispose();
  }
}

export interface LinearProbeOptions extends ProbeImages {
  /** Default: ours. */
  protocol?: LinearOptions;
  onProgress?: (progress: TrainingProgress) => void;
}

export interface LinearProbeResult extends ProbeRunResult<LinearPlan> {
  /** Numbers of a feature. */
  readonly width: number;
}

/**
 * Linear classification of images by a frozen encoder: features as the protocol reads them, then a grid of classifiers on them.
 *
 * @throws EvaluateError for images without labels, classes that do not fit, a read-out that the encoder cannot give
 */
export async function linearProbe(options: LinearProbeOptions): Promise<LinearProbeResult> {
  const { encoder, train, test, protocol = {} } = options;
  const classes = learnableClasses(train, test, "a linear probe").length;
  const plan = linearPlan(protocol, train.length, encoder ?? "pixels");
  const fn = encoder ? readoutOf(encoder, plan.readout) : pixelFeatures(options.plan);
  const stores = ["float32", "bfloat16"] as const;
  const { shape, ...result } = await runProbe(options, { fn, stores }, plan, ([width]) => gridOf(plan, width!, classes));
  return { ...result, width: shape[0]! };
}

const gridOf = (plan: LinearPlan, width: number, classes: number) =>
  new LinearGrid({
    width,
    classes,
    members: membersOf(plan).length,
    batchNorm: plan.batchNorm,
    generator: new Generator(plan.seed),
  });
