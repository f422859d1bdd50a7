// One probe from start to end: data, training, and what it took.
import type { FeatureStore } from "./features.js";
import type { ProbeGrid } from "./probe-grid.js";
import type { ProbeResult } from "./probe-judge.js";
import type { ProbePlan } from "./probe-plan.js";
import { openProbeData, type ProbeImages, type ProbeReading } from "./probe-source.js";
import { type TrainingProgress, trainProbe } from "./probe-train.js";

export interface ProbeRunResult<Plan extends ProbePlan> extends ProbeResult {
  /** The protocol with every number filled in. */
  readonly plan: Plan;
  /** What was kept of the training images; null where it was taken anew in every epoch. */
  readonly store: FeatureStore | null;
  /** Wall time until everything that is kept was there, and of the training. */
  readonly seconds: { readonly features: number; readonly training: number };
}

/** @param make the classifiers, given the numbers that are kept of an image */
export async function runProbe<Plan extends ProbePlan>(
  images: ProbeImages & { onProgress?: (progress: TrainingProgress) => void },
  reading: ProbeReading,
  plan: Plan,
  make: (shape: readonly number[]) => ProbeGrid,
): Promise<ProbeRunResult<Plan> & { readonly shape: readonly number[] }> {
  const start = performance.now();
  const { train, test, shape, store, close } = await openProbeData(images, reading, plan);
  try {
    const between = performance.now();
    const grid = make(shape);
    try {
      const { onProgress, signal, keep } = images;
      const result = await trainProbe(grid, { plan, train, test, onProgress, signal, keep });
      const seconds = { features: (between - start) / 1000, training: (performance.now() - between) / 1000 };
      return { ...result, plan, store, seconds, shape };
    } finally {
      grid.dispose();
    }
  } finally {
    await close();
  }
}
