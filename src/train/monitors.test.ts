// What the monitor calls collapse, and what it does not.
import { describe, expect, it } from "vitest";
import type { MetricsLine } from "../fit/index.js";
import { CollapseMonitor } from "./monitors.js";

const K = 16;
const levels = [{ term: "ce", value: Math.log(K), meaning: "collapse to uniform: the loss is ln K" }];
/** What a monitor says of a run of logged steps. */
const saysOf = (monitor: CollapseMonitor, steps: readonly Record<string, number>[]) =>
  steps.flatMap((each) => monitor.look(each));
const times = (count: number, values: Record<string, number>) => Array<Record<string, number>>(count).fill(values);
const healthy = { ce: 2.1, teacherEntropy: 1.4, kl: 0.7, featureStd: 0.1 };

describe("CollapseMonitor", () => {
  it("says once that a loss sits at its trivial level, after 20 logged steps in a row", () => {
    const monitor = new CollapseMonitor(levels);
    const uniform = { ...healthy, ce: Math.log(K) + 0.001 };
    expect(saysOf(monitor, times(19, uniform))).toEqual([]);
    expect(monitor.look(uniform)).toEqual(["ce has sat at 2.7736: collapse to uniform: the loss is ln K"]);
    expect(saysOf(monitor, times(50, uniform))).toEqual([]);
  });

  it("counts anew when the loss has left the level", () => {
    const monitor = new CollapseMonitor(levels, { patience: 3 });
    const uniform = { ...healthy, ce: Math.log(K) };
    expect(saysOf(monitor, [...times(2, uniform), healthy, ...times(2, uniform)])).toEqual([]);
    expect(monitor.look(uniform)).toHaveLength(1);
  });

  it("knows constant features and a single prototype", () => {
    const constant = saysOf(new CollapseMonitor([], { patience: 2 }), times(9, { ...healthy, featureStd: 2e-6 }));
    expect(constant).toEqual(["all images get the same feature (deviation 2.0e-6): collapse to a constant"]);
    const one = saysOf(new CollapseMonitor([], { patience: 2 }), times(9, { ...healthy, teacherEntropy: 1e-8, kl: 2e-4 }));
    expect(one).toEqual([
      "the teacher puts all mass on one prototype (entropy 1.0e-8) and the student agrees: collapse to one prototype",
    ]);
  });

  it("keeps quiet about a teacher that is sure while the student still learns, and about steps without measurements", () => {
    const monitor = new CollapseMonitor(levels, { patience: 1 });
    expect(saysOf(monitor, [healthy, { ...healthy, teacherEntropy: 1e-5, kl: 1.2 }, { loss: 3 }, {}])).toEqual([]);
  });

  it("goes on where a log ends: it has said what stands there, and counts on", () => {
    const line = (step: number, ce: number): MetricsLine => ({ kind: "step", step, epoch: 0, ...healthy, ce });
    const log = [1, 2, 3, 4].map((step) => line(step, Math.log(K)));
    expect(CollapseMonitor.after(log, levels, { patience: 4 }).look({ ce: Math.log(K) })).toEqual([]);
    expect(CollapseMonitor.after(log, levels, { patience: 5 }).look({ ce: Math.log(K) })).toHaveLength(1);
    expect(CollapseMonitor.after([{ kind: "knn", step: 4, epoch: 0, top1: {} }], levels).look(healthy)).toEqual([]);
  });
});
