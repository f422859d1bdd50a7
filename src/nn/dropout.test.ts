// Dropout and drop path: what is dropped, how often, how the rest is scaled, and that gradients take the same way.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { manualSeed, ones, type Tensor, tidy } from "../torch/index.js";
import { Dropout, DropPath } from "./index.js";

/** The different values that occur. */
const distinct = (x: Tensor): number[] => [...new Set(x.toArray())].sort((a, b) => a - b);
const scale = (p: number): number => Math.fround(1 / (1 - p));

/** Share of zeros; the standard error of a share p among n is sqrt(p (1 - p) / n). */
function expectShare(x: Tensor, p: number): void {
  const zeros = x.eq(0).to("float64").mean().item();
  expect(Math.abs(zeros - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / x.numel));
}

describe("dropout", () => {
  for (const p of [0.1, 0.5, 0.9]) {
    test(`drops a share of ${p} and scales the rest by 1 / (1 - p)`, () => {
      manualSeed(1);
      const out = new Dropout(p).call(ones([400, 500]));
      expect(distinct(out)).toHaveLength(2);
      expect(distinct(out)[0]).toBe(0);
      expect(distinct(out)[1]).toBeCloseTo(scale(p), 5);
      expectShare(out, p);
    });
  }
  test("the gradient is the same mask and scale", () => {
    manualSeed(2);
    const x = ones([50, 40], { requiresGrad: true });
    const out = new Dropout(0.3).call(x);
    out.sum().backward();
    expect(x.grad!.equal(out.detach())).toBe(true);
  });
  test("does nothing in eval or with p = 0, and everything with p = 1", () => {
    const x = ones([20]);
    expect(new Dropout(0.5).eval().call(x).equal(x)).toBe(true);
    expect(new Dropout(0).call(x).equal(x)).toBe(true);
    expect(distinct(new Dropout(1).call(x))).toEqual([0]);
  });
});

describe("drop path", () => {
  test("drops whole samples and scales the others", () => {
    manualSeed(3);
    const out = new DropPath(0.25).call(ones([4000, 2, 3]));
    const perSample = out.flatten(1);
    expect(perSample.amax(1).equal(perSample.amin(1))).toBe(true);
    expect(distinct(out)).toHaveLength(2);
    expect(distinct(out)[1]).toBeCloseTo(scale(0.25), 6);
    expectShare(perSample.select(1, 0), 0.25);
  });
  test("the gradient of a dropped sample is 0, of another the scale", () => {
    manualSeed(4);
    const x = ones([64, 3, 2], { requiresGrad: true });
    const out = new DropPath(0.5).call(x);
    out.sum().backward();
    expect(x.grad!.equal(out.detach())).toBe(true);
  });
  test("keeps shape and dtype, for any number of dimensions and any p", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom("float32" as const, "float64" as const, "bfloat16" as const),
        (shape, p, dtype) =>
          tidy(() => {
            const out = new DropPath(p).call(ones(shape, { dtype }));
            expect(out.shape).toEqual(shape);
            expect(out.dtype).toBe(dtype);
            expect(out.isFinite().all().item()).toBeTruthy();
          }),
      ),
    );
  });
  test("does nothing in eval or with p = 0, and everything with p = 1", () => {
    const x = ones([20, 2]);
    expect(new DropPath(0.5).eval().call(x).equal(x)).toBe(true);
    expect(new DropPath(0).call(x).equal(x)).toBe(true);
    expect(distinct(new DropPath(1).call(x))).toEqual([0]);
  });
  test("the choice follows the seed", () => {
    const draw = (seed: number) => {
      manualSeed(seed);
      return new DropPath(0.5).call(ones([64])).toArray();
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });
});
