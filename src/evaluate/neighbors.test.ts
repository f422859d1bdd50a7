import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import {
  fromTypedArray,
  Generator,
  memoryStats,
  normalize,
  randn,
  type Tensor,
  tensor,
  tidy,
  withFused,
  zeros,
} from "../torch/index.js";
import { EvaluateError, nearestNeighbors } from "./index.js";

/** Vectors whose norms are powers of two, so that similarities are exact and tie often. */
const exactVector = fc.constantFrom<number[]>(
  [1, 0, 0, 0],
  [0, -2, 0, 0],
  [1, 1, 1, 1],
  [-1, 1, -1, 1],
  [2, 2, -2, -2],
  [0, 0, 0, 0],
  [0, 0, 4, 0],
  [-1, -1, -1, -1],
);

function exactNeighbors(bank: number[][], query: number[], k: number): [similarity: number, index: number][] {
  const unit = (v: number[]): number[] => v.map((x) => x / (Math.hypot(...v) || 1));
  const q = unit(query);
  const all = bank.map((row, i): [number, number] => [unit(row).reduce((sum, x, d) => sum + x * q[d]!, 0), i]);
  return all.sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, k);
}

describe("nearestNeighbors", () => {
  it("finds what brute force finds, ties by index, whatever the chunks", () => {
    const property = fc.property(
      fc.array(exactVector, { minLength: 1, maxLength: 150 }),
      fc.array(exactVector, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 150 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 160 }),
      fc.boolean(),
      (bank, queries, wanted, queryChunk, bankChunk, fused) => {
        const k = Math.min(wanted, bank.length);
        tidy(() => {
          const options = { bank: tensor(bank), queries: tensor(queries), k, queryChunk, bankChunk };
          const found = withFused(fused, () => nearestNeighbors(options));
          const expected = queries.map((query) => exactNeighbors(bank, query, k));
          expect(found.indices.tolist()).toEqual(expected.map((row) => row.map(([, index]) => index)));
          expect(found.similarities.tolist()).toEqual(expected.map((row) => row.map(([similarity]) => similarity + 0)));
        });
      },
    );
    fc.assert(property, { numRuns: 300 });
  });

  it("equals one product and one topk on features without ties", () => {
    tidy(() => {
      const generator = new Generator(3);
      const bank = randn([3000, 24], { generator });
      const queries = randn([70, 24], { generator });
      const whole = normalize(queries).mm(normalize(bank).t()).topk(25);
      for (const [bankChunk, fused] of [65_536, 1111, 700].flatMap((chunk) => [
        [chunk, true] as const,
        [chunk, false] as const,
      ])) {
        const found = withFused(fused, () => nearestNeighbors({ bank, queries, k: 25, queryChunk: 32, bankChunk }));
        expect(found.indices.equal(whole.indices)).toBe(true);
        expect(found.similarities.sub(whole.values).abs().amax().item()).toBeLessThan(1e-6);
      }
    });
  });

  it("takes features in lower precision, and leaves nothing behind", () => {
    tidy(() => {
      const bank = randn([40, 8]).to("bfloat16");
      collectGarbage();
      const before = memoryStats().handles;
      const { indices, similarities } = nearestNeighbors({ bank, queries: bank, k: 1 });
      expect(indices.view([-1]).toArray()).toEqual(Array.from({ length: 40 }, (_, i) => i));
      indices.dispose();
      similarities.dispose();
      expect(memoryStats().handles).toBe(before + 1); // the view above
    });
  });

  it("says what is wrong", () => {
    const message = (options: { bank: Tensor; queries: Tensor; k: number; bankChunk?: number }): string => {
      try {
        nearestNeighbors(options);
      } catch (error) {
        expect(error).toBeInstanceOf(EvaluateError);
        return (error as Error).message;
      }
      return "nothing";
    };
    const bank = zeros([3, 2]);
    expect(message({ bank, queries: zeros([1, 2]), k: 4 })).toBe(
      "k is 4, but the bank has 3 features; use a smaller k or a larger bank.",
    );
    expect(message({ bank, queries: zeros([1, 2]), k: 0 })).toMatch(/^k is 0; expected a whole number/);
    expect(message({ bank, queries: zeros([1, 2]), k: 1, bankChunk: 0.5 })).toMatch(/^bankChunk is 0.5/);
    expect(message({ bank, queries: zeros([1, 3]), k: 1 })).toMatch(/^The bank's features have 2 dimensions, the queries' 3/);
    expect(message({ bank: zeros([3]), queries: zeros([1, 3]), k: 1 })).toMatch(/^bank has shape \[3\]; expected/);
    expect(message({ bank, queries: zeros([0, 2]), k: 1 })).toMatch(/^queries has shape \[0, 2\]/);
    const broken = fromTypedArray(Float32Array.of(1, 2, 3, Number.NaN, 5, 6), [3, 2]);
    expect(message({ bank: broken, queries: bank, k: 1 })).toMatch(/^Row 1 of the bank features is not finite/);
    expect(message({ bank, queries: broken, k: 1 })).toMatch(/^Row 1 of the query features is not finite/);
  });
});
