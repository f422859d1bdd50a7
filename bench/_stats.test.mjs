import { expect, test } from "vitest";
import { compared, ratiosByTurns, spread } from "./_stats.mjs";

test("the median is between the two in the middle", () => {
  expect(spread([4, 1, 2, 3])).toEqual({ least: 1, median: 2.5, most: 4 });
  expect(() => spread([])).toThrow(/no repeat was measured/);
});

test("ratios are of turns that followed one another", () => {
  expect(ratiosByTurns([1, 2, 4], [2, 2, 12])).toEqual({ least: 1, median: 2, most: 3 });
});

test("the fastest of several is the one of the least median, whichever has the best time", () => {
  const [mine, lucky, steady] = [[2, 2, 3], [1, 5, 6], [3, 4, 4]]; // biome-ignore format: short
  const { ratio, best, ofBestTimes } = compared(mine, [lucky, steady], spread);
  expect(best).toBe(steady);
  expect([ratio, ofBestTimes]).toEqual([2, 0.5]);
});
