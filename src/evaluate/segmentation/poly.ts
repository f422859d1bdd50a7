// The learning rate of mmcv's `poly` policy with a linear warm-up, by step.
import type { Schedule } from "../../optim/index.js";
import type { SegmentSettings } from "./settings.js";

/** (lr - minLr) (1 - t / iterations)^power + minLr; during the warm-up times 1 - (1 - t / warmup) (1 - warmupRatio). */
export function polySchedule(
  settings: Pick<SegmentSettings, "lr" | "minLr" | "power" | "iterations" | "warmup" | "warmupRatio">,
): Schedule {
  const { lr, minLr, power, iterations, warmup, warmupRatio } = settings;
  const least = Math.min(minLr, lr);
  return (step) => {
    const rate = (lr - least) * (1 - Math.min(step, iterations) / iterations) ** power + least;
    return step < warmup ? rate * (1 - (1 - step / warmup) * (1 - warmupRatio)) : rate;
  };
}
