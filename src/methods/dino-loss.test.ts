// The cheap form of DINO's loss against the pairwise one.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored } from "../../tests/reference/golden.js";
import { full, grad, manualSeed, ones, randn, type Tensor, zeros } from "../torch/index.js";
import { dinoLoss, meanEntropy, teacherDistribution } from "./dino-loss.js";

/** Mean over all pairs of different views, each pair's cross-entropy by itself: what the paper writes. */
function pairwise(student: Tensor, teacher: Tensor, temperature: number): Tensor {
  const views = student.size(0);
  let sum: Tensor | null = null;
  let pairs = 0;
  for (let t = 0; t < 2; t++) {
    for (let v = 0; v < views; v++) {
      if (v === t) continue;
      const s = student.select(0, v).div(temperature);
      const term = teacher.select(0, t).mul(s.logSoftmax(-1)).sum(-1).neg().mean();
      sum = sum ? sum.add(term) : term;
      pairs++;
    }
  }
  return sum!.div(pairs);
}

/** Cosines and teacher distributions as training has them. */
const random = (views: number, batch: number, K: number) => ({
  student: randn([views, batch, K]).mul(0.3).requiresGrad_(),
  teacher: randn([2, batch, K]).mul(0.3).div(0.04).softmax(-1),
});

describe("the cheap form", () => {
  for (const [views, stored] of Object.entries(
    readGolden<{ losses: Record<string, { loss: number; gradient: Stored }> }>("dino_mst").losses,
  )) {
    test(`${views} views: value and gradient of the reference program`, () => {
      const count = Number(views);
      const student = fill([count, 3, 7], 1).mul(3).detach().requiresGrad_();
      const loss = dinoLoss(student, fill([2, 3, 7], 2).mul(10).softmax(-1).float(), 0.1);
      expect(loss.item() / stored.loss).toBeCloseTo(1, 6);
      loss.backward();
      expectClose(student.grad!, stored.gradient, 1e-6, "gradient");
    });
  }
  for (const [views, batch, K] of [
    [2, 8, 64],
    [3, 1, 64],
    [6, 16, 1024],
    [10, 32, 4096],
  ] as const) {
    // biome-ignore format: a table
    test(`${views} views, batch ${batch}, K = ${K}: the pairwise form in float64 within 1e-6 of itself, values and gradients`, () => {
      manualSeed(views);
      const { student, teacher } = random(views, batch, K);
      const cheap = dinoLoss(student, teacher, 0.1);
      // In float64: in float32 the pairwise form is no nearer to the truth than the cheap one.
      const wide = student.detach().to("float64").requiresGrad_();
      const long = pairwise(wide, teacher.to("float64"), 0.1);
      expect(Math.abs(cheap.item() / long.item() - 1)).toBeLessThan(1e-6);
      const [a, b] = [grad([cheap], [student])[0]!, grad([long], [wide])[0]!];
      expect(a.sub(b).norm().item()).toBeLessThan(1e-6 * b.norm().item());
    });
  }
  test("any number of views, samples and prototypes", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 7 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 2, max: 9 }),
        (views, batch, K) => {
          const { student, teacher } = random(views, batch, K);
          const long = pairwise(student, teacher, 0.1).item();
          expect(Math.abs(dinoLoss(student, teacher, 0.1).item() - long)).toBeLessThan(1e-6 * (1 + long));
        },
      ),
      { numRuns: 20 },
    );
  });
  test("a view is not compared with itself: a teacher that agrees with each view's own student still pays", () => {
    const logits = zeros([2, 1, 2]);
    logits.select(0, 0).select(1, 0).fill_(5);
    logits.select(0, 1).select(1, 1).fill_(5);
    const teacher = logits.mul(100).softmax(-1);
    expect(dinoLoss(logits, teacher, 1).item()).toBeCloseTo(5 + Math.log1p(Math.exp(-5)), 5);
    expect(dinoLoss(logits, teacher.flip(0), 1).item()).toBeCloseTo(Math.log1p(Math.exp(-5)), 5);
  });
  test("uniform students cost ln K whatever the teacher says", () => {
    const { teacher } = random(5, 4, 50);
    expect(dinoLoss(ones([5, 4, 50]), teacher, 0.1).item()).toBeCloseTo(Math.log(50), 5);
  });
  test("bfloat16 logits are widened before the log-sum-exp", () => {
    const { student, teacher } = random(4, 4, 256);
    const narrow = student.to("bfloat16");
    expect(dinoLoss(narrow, teacher, 0.1).item()).toBe(dinoLoss(narrow.float(), teacher, 0.1).item());
    expect(dinoLoss(narrow, teacher, 0.1).dtype).toBe("float32");
  });
});

describe("the teacher's distribution", () => {
  test("softmax((g - c) / tau), without history", () => {
    const [logits, center] = [randn([2, 3, 8], { requiresGrad: true }), randn([1, 8])];
    const P = teacherDistribution(logits, center, 0.04);
    expect(P.requiresGrad).toBe(false);
    const e = logits.detach().sub(center).div(0.04);
    const expected = e.sub(e.amax(-1, { keepdim: true })).exp();
    expect(
      P.sub(expected.div(expected.sum(-1, { keepdim: true })))
        .abs()
        .amax()
        .item(),
    ).toBeLessThan(1e-6);
  });
  test("a centre equal to the logits makes it uniform", () => {
    const logits = randn([1, 8]);
    expect(teacherDistribution(logits, logits, 0.04).toArray()).toEqual(Array(8).fill(0.125));
  });
});

describe("entropy", () => {
  test("ln K when uniform, 0 when certain", () => {
    expect(meanEntropy(full([2, 3, 16], 1 / 16)).item()).toBeCloseTo(Math.log(16), 6);
    const certain = zeros([4, 16]);
    certain.select(1, 3).fill_(1);
    expect(meanEntropy(certain).item()).toBeCloseTo(0, 8);
  });
});
