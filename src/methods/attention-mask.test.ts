// MST's masks by their properties: only where the teacher looks least, as often as asked.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { manualSeed, ones, rand, tensor } from "../torch/index.js";
import { attentionGuidedMask, randomMask } from "./attention-mask.js";

const sizes = fc.record({
  batch: fc.integer({ min: 1, max: 5 }),
  count: fc.integer({ min: 1, max: 60 }),
  num: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.double({ min: 1, max: 12, noNaN: true })),
  p: fc.double({ min: 0, max: 1, noNaN: true }),
});

/** Patches of the floor(count / num) lowest scores. */
const lowest = (scores: readonly number[], num: number) => {
  const order = [...scores.keys()].sort((a, b) => scores[a]! - scores[b]!);
  return new Set(order.slice(0, Math.floor(scores.length / num)));
};
const rows = (values: readonly number[], count: number) =>
  Array.from({ length: values.length / count }, (_, i) => values.slice(i * count, (i + 1) * count));

describe("attention-guided mask", () => {
  test("masks only tokens among the floor(N / num) lowest", () => {
    fc.assert(
      fc.property(sizes, ({ batch, count, num, p }) => {
        const attention = rand([batch, count]);
        const mask = attentionGuidedMask(attention, { num, p });
        expect(mask.shape).toEqual([batch, count]);
        expect(mask.dtype).toBe("bool");
        const scores = rows(attention.toArray(), count);
        for (const [b, row] of rows(mask.toArray(), count).entries()) {
          const allowed = lowest(scores[b]!, num);
          for (const [i, masked] of row.entries()) if (masked) expect(allowed.has(i)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });
  test("p = 1 masks exactly floor(N / num) of each image, where no two scores are the same", () => {
    fc.assert(
      fc.property(sizes, ({ batch, count, num }) => {
        // Distinct by construction: a float32 uniform may draw a value twice.
        const attention = tensor(
          Array.from({ length: batch }, (_, b) => Array.from({ length: count }, (_, i) => ((i * 7 + b) % count) + i / 100)),
        );
        const mask = attentionGuidedMask(attention, { num, p: 1 });
        expect(mask.sum(1).toArray()).toEqual(Array(batch).fill(Math.floor(count / num)));
      }),
      { numRuns: 60 },
    );
  });
  test("p = 0 masks nothing", () => {
    expect(
      attentionGuidedMask(rand([8, 49]), { num: 2, p: 0 })
        .any()
        .item(),
    ).toBe(0);
  });
  test("scores that are all the same have no lowest, so nothing is masked", () => {
    expect(
      attentionGuidedMask(ones([2, 16]), { num: 4, p: 1 })
        .any()
        .item(),
    ).toBe(0);
  });
  test("fewer patches than num leave no candidate", () => {
    expect(
      attentionGuidedMask(rand([2, 5]), { num: 8, p: 1 })
        .any()
        .item(),
    ).toBe(0);
  });
  test("the number masked is binomial: mean and variance of floor(N / num) draws with p", () => {
    manualSeed(5);
    const [images, count, num, p] = [4000, 64, 8, 0.3];
    const counts = attentionGuidedMask(rand([images, count]), { num, p })
      .sum(1)
      .to("float64");
    const n = count / num;
    const variance = n * p * (1 - p);
    // Five standard deviations; the variance of a binomial's variance estimate is about 2 variance^2 / images.
    expect(Math.abs(counts.mean().item() - n * p)).toBeLessThan(5 * Math.sqrt(variance / images));
    expect(Math.abs(counts.var().item() - variance)).toBeLessThan(5 * variance * Math.sqrt(2 / images));
    expect(counts.mean().item() / count).toBeCloseTo(p / num, 2);
  });
  test("has no history, and needs none of the attention's", () => {
    const attention = rand([2, 16], { requiresGrad: true });
    expect(attentionGuidedMask(attention.mul(2), { num: 4, p: 0.5 }).requiresGrad).toBe(false);
  });
  test("comes again from the same seed", () => {
    const attention = rand([4, 49]);
    const [a, b] = [0, 1].map(() => {
      manualSeed(11);
      return attentionGuidedMask(attention, { num: 4, p: 0.5 });
    });
    expect(a!.equal(b!)).toBe(true);
  });
});

describe("random mask", () => {
  test("every token with probability p, wherever it is", () => {
    manualSeed(6);
    const [images, count, p] = [4000, 25, 0.2];
    const mask = randomMask(images, count, p, ones([1]));
    expect(mask.dtype).toBe("bool");
    const shares = mask.to("float64").mean(0).toArray();
    for (const share of shares) expect(Math.abs(share - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / images));
  });
  test("p = 0 and p = 1", () => {
    expect(
      randomMask(3, 7, 0, ones([1]))
        .any()
        .item(),
    ).toBe(0);
    expect(
      randomMask(3, 7, 1, ones([1]))
        .all()
        .item(),
    ).toBe(1);
  });
});
