import { describe, expect, it } from "vitest";
import { bySeed, describeDifference, describeSample, differenceOf, sampleOf } from "./study-numbers.js";

describe("means and spreads", () => {
  it("are the mean and the standard deviation with n - 1", () => {
    expect(sampleOf([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ mean: 5, spread: expect.closeTo(Math.sqrt(32 / 7), 12), n: 8 });
    expect(sampleOf([70.5])).toEqual({ mean: 70.5, spread: null, n: 1 });
    expect(sampleOf([])).toBeNull();
  });

  it("takes differences seed by seed, over the seeds that both have", () => {
    const seeds = [0, 1, 2].map((seed) => ({ seed, values: { knn: 60 + 10 * seed } }));
    const row = bySeed({ seeds }, "knn");
    expect(bySeed({ seeds }, "linear").size).toBe(0);
    const better = new Map([...row].map(([seed, value]) => [seed, value + 2]));
    // Far apart from seed to seed, and yet always 2 better.
    expect(differenceOf(better, row)).toEqual({ mean: 2, spread: 0, n: 3 });
    better.delete(0);
    expect(differenceOf(better, row)).toEqual({ mean: 2, spread: 0, n: 2 });
    expect(differenceOf(new Map([[7, 1]]), row)).toBeNull();
  });

  it("are written with two digits and a sign", () => {
    expect(describeSample({ mean: 81.377, spread: 0.2, n: 2 })).toBe("81.38 ± 0.20");
    expect(describeSample({ mean: 81.377, spread: null, n: 1 })).toBe("81.38");
    expect(describeDifference({ mean: 0.5, spread: 0.25, n: 2 })).toBe("+0.50 ± 0.25");
    expect(describeDifference({ mean: -0.5, spread: null, n: 1 })).toBe("-0.50");
    expect(describeDifference({ mean: -0.001, spread: null, n: 1 })).toBe("+0.00");
  });
});
