import { expect, test } from "vitest";
import { ratiosByTurns, spread } from "./_stats.mjs";

test("the median is between the two in the middle", () => {
  expect(spread([4, 1, 2, 3])).toEqual({ least: 1, median: 2.5, most: 4 });
  expect(() => spread([])).toThrow(/no repeat was measured/);
});

test("ratios are of turns that followed one another", () => {
  expect(ratiosByTurns([1, 2, 4], [2, 2, 12])).toEqual({ least: 1, median: 2, most: 3 });
});
