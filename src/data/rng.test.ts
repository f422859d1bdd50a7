import { describe, expect, it } from "vitest";
import { epochOrder, replacementFor } from "./order.js";
import { namedStream, philox, Rng } from "./rng.js";

describe("philox", () => {
  // Known answers of the Random123 distribution (philox4x32-10).
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("counter %j key %j", (counter, key, expected) => {
    const out = new Uint32Array(4);
    philox(out, counter[0]!, counter[1]!, counter[2]!, counter[3]!, key[0]!, key[1]!);
    expect([...out]).toEqual(expected);
  });
});

describe("Rng", () => {
  it("gives the same numbers at the same place, whatever was drawn before", () => {
    const rng = new Rng(7, 1, 2, 3);
    const first = [rng.uniform(), rng.intBelow(10), rng.normal()];
    rng.at(9, 9, 9).uniform();
    rng.at(1, 2, 3);
    expect([rng.uniform(), rng.intBelow(10), rng.normal()]).toEqual(first);
    for (const [epoch, sample, stream, seed] of [
      [0, 2, 3, 7],
      [1, 0, 3, 7],
      [1, 2, 0, 7],
      [1, 2, 3, 7 + 2 ** 32],
    ]) {
      expect(new Rng(seed!, epoch, sample, stream).uniform()).not.toBe(first[0]);
    }
  });

  it("has the right distributions", () => {
    const rng = new Rng(1);
    const n = 100_000;
    const counts = new Array<number>(7).fill(0);
    const sums = { uniform: 0, squares: 0, normal: 0, normalSquares: 0 };
    for (let i = 0; i < n; i++) {
      const u = rng.uniform(2, 4);
      expect(u >= 2 && u < 4).toBe(true);
      sums.uniform += u;
      sums.squares += (u - 3) ** 2;
      const z = rng.normal(1, 2);
      sums.normal += z;
      sums.normalSquares += (z - 1) ** 2;
      counts[rng.intBelow(7)]!++;
    }
    expect(sums.uniform / n).toBeCloseTo(3, 1);
    expect(sums.squares / n).toBeCloseTo(1 / 3, 2);
    expect(sums.normal / n).toBeCloseTo(1, 1);
    expect(sums.normalSquares / n).toBeCloseTo(4, 0);
    // Chi-square with 6 degrees of freedom: above 30 about once in 25,000 seeds.
    expect(counts.reduce((sum, count) => sum + (count - n / 7) ** 2 / (n / 7), 0)).toBeLessThan(30);
  });

  it("refuses seeds it cannot keep apart", () => {
    for (const seed of [-1, 0.5, 2 ** 53, Number.NaN]) expect(() => new Rng(seed)).toThrow(/seed is/);
  });

  it("keeps names apart from crops", () => {
    expect(namedStream("a")).toBeGreaterThanOrEqual(0x80000000);
    expect(namedStream("a")).not.toBe(namedStream("b"));
  });
});

describe("order", () => {
  it("is a permutation that depends on seed and epoch only", () => {
    const order = epochOrder(1000, 3, 4, true);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(epochOrder(1000, 3, 4, true)).toEqual(order);
    expect(epochOrder(1000, 3, 5, true)).not.toEqual(order);
    expect(epochOrder(1000, 4, 4, true)).not.toEqual(order);
  });

  it("shuffles evenly: every sample is as often in front", () => {
    const counts = new Array<number>(5).fill(0);
    for (let epoch = 0; epoch < 5000; epoch++) counts[epochOrder(5, 1, epoch, true)[0]!]!++;
    expect(counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(30);
  });

  it("replaces by attempts that differ", () => {
    const tries = Array.from({ length: 20 }, (_, attempt) => replacementFor(1000, 1, 2, 3, attempt));
    expect(new Set(tries).size).toBeGreaterThan(15);
    expect(replacementFor(1000, 1, 2, 3, 7)).toBe(tries[7]);
    expect(tries.every((index) => index >= 0 && index < 1000)).toBe(true);
  });
});
