import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromTypedArray, Generator, randn, tensor, tidy, zeros } from "../torch/index.js";
import { EvaluateError, type KnnOptions, knn } from "./index.js";

/** The definition, in plain JavaScript. */
function bruteForce(bank: number[][], bankLabels: number[], queries: number[][], labels: number[], classes: number, k: number) {
  const unit = (v: number[]): number[] => v.map((x) => x / (Math.hypot(...v) || 1));
  const rows = bank.map(unit);
  let top1 = 0;
  let top5 = 0;
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (const [i, query] of queries.entries()) {
    const q = unit(query);
    const near = rows.map((row, j) => ({ similarity: row.reduce((sum, x, d) => sum + x * q[d]!, 0), j }));
    near.sort((a, b) => b.similarity - a.similarity || a.j - b.j);
    const votes = new Array<number>(classes).fill(0);
    for (const { similarity, j } of near.slice(0, k))
      votes[bankLabels[j]!]! += Math.exp((similarity - near[0]!.similarity) / 0.07);
    const order = votes.map((vote, c) => ({ vote, c }));
    order.sort((a, b) => b.vote - a.vote || a.c - b.c);
    const place = order.findIndex(({ c }) => c === labels[i]);
    confusion[labels[i]!]![order[0]!.c]!++;
    if (place === 0) top1++;
    if (place >= 0 && place < Math.min(5, k)) top5++;
  }
  return { top1: top1 / queries.length, top5: top5 / queries.length, confusion };
}

describe("knn", () => {
  it("is the definition, for random features and labels", () => {
    const property = fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 0, max: 1e6 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 5, max: 70 }),
      (rows, count, classes, seed, asked, bankChunk) =>
        tidy(() => {
          const generator = new Generator(seed);
          const bank = randn([rows, 5], { generator });
          const queries = randn([count, 5], { generator });
          const labelOf = (_: unknown, i: number): number => (i * 31 + seed) % classes;
          const bankLabels = Array.from({ length: rows }, labelOf);
          const labels = Array.from({ length: count }, labelOf);
          const k = asked.map((each) => Math.min(each, rows));
          const found = knn({ bank, bankLabels, queries, labels, classes, k, queryChunk: 7, bankChunk, confusion: true });
          for (const each of k) {
            const expected = bruteForce(
              bank.tolist() as number[][],
              bankLabels,
              queries.tolist() as number[][],
              labels,
              classes,
              each,
            );
            expect(found.top1[each]).toBeCloseTo(expected.top1, 12);
            expect(found.top5[each]).toBeCloseTo(expected.top5, 12);
            expect(found.confusion![each]).toEqual(expected.confusion);
          }
        }),
    );
    fc.assert(property, { numRuns: 60 });
  });

  it("gives ties to the lower class, and places without votes too", () => {
    const bank = tensor([
      [1, 0],
      [1, 0],
      [-1, 0],
    ]);
    const one = { bank, bankLabels: [4, 2, 0], queries: tensor([[1, 0]]), classes: 6, k: [1, 2] };
    expect(knn({ ...one, labels: [2] }).top1).toEqual({ 1: 0, 2: 1 });
    expect(knn({ ...one, labels: [4] }).top1).toEqual({ 1: 1, 2: 0 });
    expect(knn({ ...one, labels: [4] }).top5).toEqual({ 1: 1, 2: 1 });
    // Votes: 2 and 4 (k = 2). Two places; with k = 1, one.
    expect(knn({ ...one, labels: [0] }).top5).toEqual({ 1: 0, 2: 0 });
    // k = 3: class 0 has the third place; min(5, k) is 3, so class 1, without votes, is left out.
    expect(knn({ ...one, k: [3], labels: [0] }).top5).toEqual({ 3: 1 });
    expect(knn({ ...one, k: [3], labels: [1] }).top5).toEqual({ 3: 0 });
    // All of one class: the places after it go to the lowest others, 0 to 3.
    const same = { bank: tensor(Array.from({ length: 6 }, () => [1, 0])), bankLabels: [5, 5, 5, 5, 5, 5], k: [6] };
    expect([0, 3, 4, 5].map((label) => knn({ ...one, ...same, labels: [label] }).top5[6])).toEqual([1, 1, 0, 1]);
  });

  it("works with one class, with one feature, at a very low temperature, and with labels as tensors", () => {
    const bank = randn([9, 4]);
    const options = { bank, queries: bank, bankLabels: new Int32Array(9), labels: new Int32Array(9), classes: 1 };
    expect(knn(options)).toEqual({ top1: { 9: 1 }, top5: { 9: 1 } });
    const labels = fromTypedArray(Int32Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8]));
    expect(knn({ ...options, bankLabels: labels, labels, classes: 9, k: [9], temperature: 1e-4 }).top1).toEqual({ 9: 1 });
    expect(
      knn({ bank: zeros([1, 2]), bankLabels: [0], queries: zeros([2, 2]), labels: [0, 0], classes: 1, k: [1] }).top1,
    ).toEqual({ 1: 1 });
  });

  it("takes those of the default k that the bank can give", () => {
    const make = (rows: number) => {
      const features = randn([rows, 3]);
      const labels = new Int32Array(rows);
      return Object.keys(knn({ bank: features, queries: features, bankLabels: labels, labels, classes: 1 }).top1);
    };
    expect(make(300)).toEqual(["10", "20", "100", "200"]);
    expect(make(99)).toEqual(["10", "20"]);
    expect(make(3)).toEqual(["3"]);
  });

  it("says what is wrong", () => {
    const good: KnnOptions = {
      bank: zeros([3, 2]),
      bankLabels: [0, 1, 0],
      queries: zeros([2, 2]),
      labels: [0, 1],
      classes: 2,
      k: [1],
    };
    const message = (change: Partial<KnnOptions>): string => {
      try {
        knn({ ...good, ...change });
      } catch (error) {
        expect(error).toBeInstanceOf(EvaluateError);
        return (error as Error).message;
      }
      return "nothing";
    };
    expect(message({})).toBe("nothing");
    expect(message({ k: [1, 20] })).toBe("k is 20, but the bank has only 3 features; use k of at most 3, or a larger bank.");
    expect(message({ k: [] })).toMatch(/^k is an empty list/);
    expect(message({ k: [1.5] })).toMatch(/^k is 1.5/);
    expect(message({ bankLabels: [0, 1] })).toBe("bankLabels has 2 elements for 3 features; expected one label a feature.");
    expect(message({ labels: zeros([2, 1]) })).toMatch(/^labels has shape \[2, 1\] for 2 features/);
    expect(message({ labels: [0, 2] })).toMatch(/^labels\[1\] is 2; expected 0 to 1 for 2 classes/);
    expect(message({ bankLabels: Int32Array.of(0, 0, -1) })).toMatch(
      /^bankLabels\[2\] is -1; .* Leave out samples without a label/,
    );
    expect(message({ classes: 0 })).toMatch(/^classes is 0/);
    expect(message({ temperature: 0 })).toMatch(/^temperature is 0; expected a number above 0/);
    expect(message({ temperature: Number.NaN })).toMatch(/^temperature is NaN/);
  });
});
