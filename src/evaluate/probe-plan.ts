// How a probe is trained: what all probes have in common, and what may be asked for.
import { z } from "zod";
import type { Interpolation } from "../data/index.js";
import { LARS, type Optimizer, type ParameterGroup, type Schedule, SGD, schedule } from "../optim/index.js";
import { EvaluateError } from "./errors.js";

/** A crop and a flip of training images, as a protocol has them; used where augmentation is asked for. */
export interface ProbeCrop {
  /** Share of the image's area. */
  readonly scale: readonly [number, number];
  readonly interpolation: Interpolation;
}

/** A protocol with every number filled in. */
export interface ProbePlan {
  readonly epochs: number;
  /** Images a step; no more than there are. */
  readonly batchSize: number;
  /** Base learning rates, one member of the grid each: a member's is base x batchSize / lrBatch. */
  readonly lr: readonly number[];
  readonly lrBatch: number;
  /** Each is combined with each learning rate. */
  readonly weightDecay: readonly number[];
  readonly optimizer: "sgd" | "lars";
  readonly momentum: number;
  readonly nesterov: boolean;
  /** Linear from 0. */
  readonly warmupEpochs: number;
  /** Learning rate at the end of the cosine. */
  readonly finalLr: number;
  /** When the learning rate changes. */
  readonly per: "step" | "epoch";
  /** Which evaluation counts: after the last epoch, or the best of one after each epoch, as papers that look at the test images have it. */
  readonly report: "last" | "best-epoch";
  /** Epochs between evaluations; 0 for only the one after the last, which there is in any case. */
  readonly evaluateEvery: number;
  readonly crop: ProbeCrop;
  readonly seed: number;
}

const rates = z.array(z.number().positive()).min(1);

/** What may be changed of a protocol. */
export const probeOptions = z.strictObject({
  epochs: z.int().positive().optional(),
  /** Images a step. */
  batchSize: z.int().positive().optional(),
  /** Base learning rates, of a batch of 256; several are tried side by side. */
  lr: rates.optional(),
  weightDecay: z.array(z.number().min(0)).min(1).optional(),
  optimizer: z.enum(["sgd", "lars"]).optional(),
  warmupEpochs: z.number().min(0).optional(),
  /** Epochs between evaluations. */
  evaluateEvery: z.int().min(0).optional(),
  /** Order of the images and start of the weights. */
  seed: z.int().min(0).optional(),
});

export type ProbeOptions = z.input<typeof probeOptions>;

/** Options as their schema has them. @param what the probe's name @throws EvaluateError with the first that is wrong */
export function checkedBy<Schema extends z.ZodType>(schema: Schema, options: z.input<Schema>, what: string): z.output<Schema> {
  const { success, data, error } = schema.safeParse(options);
  if (success) return data;
  const { path, message } = error.issues[0]!;
  throw new EvaluateError(`${path.length > 0 ? path.map(String).join(".") : "An option"} of the ${what}: ${message}`);
}

/** A member of the grid: its learning rate at the top of the schedule, and its weight decay. */
export interface MemberRates {
  readonly lr: number;
  readonly weightDecay: number;
}

/** A protocol with changes. @throws EvaluateError for what does not fit together */
export function withOptions<Plan extends ProbePlan>(plan: Plan, options: ProbeOptions, images: number): Plan {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const merged = { ...plan, ...given } as Plan;
  const batchSize = Math.min(merged.batchSize, images);
  if (merged.warmupEpochs > merged.epochs) {
    throw new EvaluateError(
      `The warm-up of ${merged.warmupEpochs} epochs is longer than the ${merged.epochs} epochs of training; shorten the warm-up or train longer.`,
    );
  }
  return { ...merged, batchSize };
}

/** All members of the grid. */
export function membersOf({ lr, weightDecay, batchSize, lrBatch }: ProbePlan): MemberRates[] {
  return weightDecay.flatMap((decay) => lr.map((base) => ({ lr: (base * batchSize) / lrBatch, weightDecay: decay })));
}

/** Moves all members of a grid, each by its own rates. */
export class GridOptimizer {
  /** Its state is what a checkpoint keeps. */
  readonly optimizer: Optimizer;
  readonly #groups: { lrScale: number }[];
  readonly #schedules: Schedule[];

  constructor(plan: ProbePlan, groups: readonly ParameterGroup[], stepsPerEpoch: number) {
    const members = membersOf(plan);
    // The optimiser's own rates are 1, so that a group's scale is the member's rate.
    const scaled = groups.map((group, i) => ({ ...group, lrScale: 0, decayScale: members[i]!.weightDecay }));
    const { momentum, nesterov } = plan;
    const all = { lr: 1, weightDecay: 1, momentum };
    this.optimizer = plan.optimizer === "lars" ? new LARS(scaled, all) : new SGD(scaled, { ...all, nesterov });
    this.#groups = scaled;
    const length = { steps: plan.epochs * stepsPerEpoch, stepsPerEpoch };
    const warmup = { epochs: plan.warmupEpochs };
    this.#schedules = members.map(({ lr }) =>
      schedule({ kind: "cosine", from: lr, to: Math.min(plan.finalLr, lr), warmup, per: plan.per }, length),
    );
  }

  /** One step of all members, the `step`th from 0. */
  step(step: number): void {
    for (const [i, group] of this.#groups.entries()) group.lrScale = this.#schedules[i]!(step);
    this.optimizer.step();
  }

  dispose(): void {
    this.optimizer.dispose();
  }
}
