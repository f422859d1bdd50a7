// What a run's log says of its k-NN scores.
import { describe, expect, it } from "vitest";
import { scoresIn } from "./online-knn.js";

describe("scoresIn", () => {
  const knn = (step: number, top1: Record<string, number>) => ({ kind: "knn" as const, step, epoch: 0, top1 });
  it("finds the last scores and the best for a k", () => {
    const lines = [knn(1, { 5: 40, 20: 30 }), { kind: "step" as const, step: 2, epoch: 0 }, knn(3, { 5: 50, 20: 20 })];
    expect(scoresIn(lines, 20)).toEqual({ lastKnn: { 5: 50, 20: 20 }, bestKnn: 30 });
    expect(scoresIn(lines, 7)).toEqual({ lastKnn: { 5: 50, 20: 20 } });
    expect(scoresIn([], 20)).toEqual({});
  });
});
