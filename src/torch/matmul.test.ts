// Products of matrices against those in float64: where native/matmul.cpp stands in for libtorch, its own; elsewhere libtorch's, which are as near.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  backward,
  type DType,
  getNumThreads,
  hasOwnProducts,
  linear,
  manualSeed,
  ones,
  randn,
  setNumThreads,
  type Tensor,
  tidy,
  usesFused,
  versionInfo,
  withFused,
} from "./index.js";

/**
 * How far a product is from the one in float64, over how large that is, or would be if terms of random signs were added up: of equal rows on both
 * sides all is one sum, in which nearly all may cancel.
 */
function distance(actual: Tensor, a: Tensor, b: Tensor, bias?: Tensor): number {
  const [left, right] = [a.to("float64"), b.to("float64")];
  const exact = left.matmul(right);
  const expected = bias ? exact.add(bias.to("float64")) : exact;
  const usual = left.mul(left).matmul(right.mul(right)).sqrt();
  return actual.to("float64").sub(expected).norm().item() / Math.max(expected.norm().item(), usual.norm().item());
}

/** [rows, columns] as a matrix with contiguous rows, with contiguous columns, or cut out of a larger one of either. */
const layouts: Record<string, (rows: number, columns: number, dtype: DType) => Tensor> = {
  rows: (rows, columns, dtype) => randn([rows, columns]).to(dtype),
  columns: (rows, columns, dtype) => randn([columns, rows]).to(dtype).t(),
  "part of rows": (rows, columns, dtype) =>
    randn([rows + 3, columns + 5])
      .to(dtype)
      .narrow(0, 1, rows)
      .narrow(1, 2, columns),
  "part of columns": (rows, columns, dtype) =>
    randn([columns + 3, rows + 5])
      .to(dtype)
      .t()
      .narrow(0, 2, rows)
      .narrow(1, 1, columns),
  "one row again and again": (rows, columns, dtype) => randn([1, columns]).to(dtype).expand([rows, columns]),
  "every other number": (rows, columns, dtype) => randn([rows, columns, 2]).to(dtype).select(2, 0),
};
const names = fc.constantFrom(...Object.keys(layouts));
/** More than one block of rows, of columns and of depth, and less than a strip of each. */
const sides = fc.integer({ min: 17, max: 230 });
const depths = fc.oneof(fc.integer({ min: 100, max: 500 }), fc.integer({ min: 1500, max: 1700 }));
/** Rounding of 20,000 numbers added up one after another, as plain BLAS does; sums of sums are ten times nearer. Of the result, to 8 bits. */
const tolerances = { float32: 4e-6, bfloat16: 4e-3 };

/** Whether libtorch rounds to bfloat16 after every addition: then there is nothing to hold its own products to. */
const roundsSums = versionInfo().torch.startsWith("1.");
const dtypes =
  !roundsSums || (usesFused() && hasOwnProducts("bfloat16")) ? (["float32", "bfloat16"] as const) : (["float32"] as const);

describe.each(dtypes)("products of matrices in %s", (dtype) => {
  const tolerance = tolerances[dtype];
  const random = (shape: number[]) => randn(shape).to(dtype);

  test("of any layout and size", () => {
    fc.assert(
      fc.property(sides, depths, sides, names, names, (m, k, n, left, right) =>
        tidy(() => {
          manualSeed(m * k * n);
          const [a, b] = [layouts[left]!(m, k, dtype), layouts[right]!(k, n, dtype)];
          expect(distance(a.matmul(b), a, b)).toBeLessThan(tolerance);
          const bias = random([n]);
          expect(distance(linear(a, b.t(), bias), a, b, bias)).toBeLessThan(tolerance);
        }),
      ),
      { numRuns: 40 },
    );
  });

  test("of batches", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), sides, depths, sides, fc.boolean(), (count, m, k, n, flipped) =>
        tidy(() => {
          manualSeed(m * k * n);
          const a = random([count, m, k]);
          const b = flipped ? random([count, n, k]).transpose(-2, -1) : random([count, k, n]);
          expect(distance(a.matmul(b), a, b)).toBeLessThan(tolerance);
        }),
      ),
      { numRuns: 15 },
    );
  });

  test("of few rows with many columns, and of many rows with few columns", () => {
    for (const [m, k, n] of [
      [16, 300, 3000],
      [3000, 300, 16],
      [16, 20_000, 20],
      [97, 1537, 49],
      [400, 3200, 130],
      [64, 64, 64],
      [500, 66, 1],
    ] as const) {
      const [a, b] = [random([m, k]), random([k, n])];
      expect(distance(a.matmul(b), a, b)).toBeLessThan(tolerance);
    }
  });

  test("gradients", () => {
    const [x, weight, bias] = [random([4, 50, 300]), random([200, 300]), random([200])].map((each) => each.requiresGrad_());
    const given = random([4, 50, 200]);
    backward([linear(x!, weight!, bias!)], { gradients: [given] });
    const rows = given.flatten(0, 1);
    expect(distance(x!.grad!.flatten(0, 1), rows, weight!.detach())).toBeLessThan(tolerance);
    expect(distance(weight!.grad!, rows.t(), x!.detach().flatten(0, 1))).toBeLessThan(tolerance);
    expect(distance(bias!.grad!.view([1, -1]), ones([1, 200]).to(dtype), rows)).toBeLessThan(tolerance);
  });

  test("what is not a number stays one, and infinite what is", () => {
    const a = ones([64, 512]).to(dtype);
    a.select(0, 3).select(0, 400).fill_(Number.NaN);
    a.select(0, 5).select(0, 7).fill_(Number.POSITIVE_INFINITY);
    const out = a.matmul(ones([512, 200]).to(dtype));
    expect([3, 4, 5].map((row) => out.select(0, row).select(0, 199).item())).toEqual([Number.NaN, 512, Number.POSITIVE_INFINITY]);
  });

  test("are the same for each number of threads, and close to libtorch's own", () => {
    const [a, b] = [random([500, 700]), random([700, 300])];
    const own = a.matmul(b);
    const threads = getNumThreads();
    try {
      for (const count of [1, 3]) {
        setNumThreads(count);
        // MKL promises nothing of the kind.
        if (hasOwnProducts(dtype)) expect(own.equal(a.matmul(b))).toBe(true);
      }
    } finally {
      setNumThreads(threads);
    }
    if (dtype === "bfloat16" && roundsSums) return;
    const other = withFused(false, () => a.matmul(b));
    expect(own.sub(other).norm().item()).toBeLessThan(tolerance * own.norm().item());
  });
});
