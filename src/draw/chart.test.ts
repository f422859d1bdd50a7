import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ChartOptions, DrawError, lineChart } from "./index.js";
import { logTicks, niceTicks, tickLabel } from "./ticks.js";

const blue = (image: { data: Uint8Array }): number => {
  let count = 0;
  for (let i = 0; i < image.data.length; i += 3)
    if (image.data[i] === 0 && image.data[i + 1] === 114 && image.data[i + 2] === 178) count++;
  return count;
};

describe("ticks", () => {
  it("are round, evenly spaced, inside the range and told apart by their labels", () => {
    const property = fc.property(
      fc.double({ min: -1e6, max: 1e6, noNaN: true }),
      fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
      (low, span) => {
        const high = low + span;
        const ticks = niceTicks(low, high);
        expect(ticks.length).toBeGreaterThanOrEqual(2);
        expect(ticks.length).toBeLessThanOrEqual(8);
        for (const tick of ticks) {
          expect(tick).toBeGreaterThanOrEqual(low - span * 1e-6);
          expect(tick).toBeLessThanOrEqual(high + span * 1e-6);
        }
      },
    );
    fc.assert(property);
    expect(niceTicks(0, 10)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(niceTicks(0.64, 0.72, 4).map((each) => tickLabel(each, 0.02))).toEqual(["0.64", "0.66", "0.68", "0.70", "0.72"]);
    expect(niceTicks(0, 1, 4).map((each) => tickLabel(each, 0.25))).toEqual(["0.00", "0.25", "0.50", "0.75", "1.00"]);
    expect(tickLabel(200_000, 50_000)).toBe("2e5");
    expect(niceTicks(3, 3)).toEqual([3]);
    expect(logTicks(1e-6, 1e-2).map((each) => tickLabel(each, 0))).toEqual(["1e-6", "1e-5", "1e-4", "0.001", "0.01"]);
    expect(logTicks(0.5, 20).map((each) => tickLabel(each, 0))).toEqual(["0.5", "1", "2", "5", "10", "20"]);
  });
});

describe("lineChart", () => {
  it("draws lines, leaves gaps where points are missing, and shows lone points", () => {
    const x = Array.from({ length: 100 }, (_, i) => i);
    const whole = lineChart({ series: [{ name: "a", x, y: x }] });
    expect([whole.width, whole.height]).toEqual([760, 420]);
    const gap = lineChart({ series: [{ name: "a", x, y: x.map((v) => (v > 20 && v < 80 ? Number.NaN : v)) }] });
    expect(blue(gap)).toBeLessThan(blue(whole) * 0.6);
    expect(blue(gap)).toBeGreaterThan(blue(whole) * 0.2);
    const lone = lineChart({ series: [{ name: "a", x: [1], y: [5] }], title: "one point" });
    expect(blue(lone)).toBeGreaterThan(20);
    expect(blue(lineChart({ series: [{ name: "a", x: [], y: [] }], title: "none" }))).toBe(0);
  });

  it("puts a value where the axis has it", () => {
    const image = lineChart({ series: [{ name: "a", x: [0, 10], y: [0, 0] }], yRange: [-1, 1], title: "t" });
    const rows = new Set<number>();
    for (let i = 0; i < image.data.length; i += 3) {
      if (image.data[i] === 0 && image.data[i + 1] === 114) rows.add(Math.floor(i / 3 / image.width));
    }
    const middle = ([...rows].reduce((a, b) => a + b, 0) / rows.size) * 2;
    // Half-way between the title and the lower axis.
    const dark: number[] = [];
    for (let y = 0; y < image.height; y++) if (image.data[(y * image.width + 500) * 3] === 34) dark.push(y);
    expect(Math.abs(middle - (14 + 26 + dark.at(-1)!))).toBeLessThan(4);
  });

  it("takes a logarithmic axis, many lines and long names", () => {
    const series = Array.from({ length: 12 }, (_, i) => ({
      name: `a rather long name ${i}`,
      x: [1, 2, 3],
      y: [10 ** i, 0, 10 ** (i + 1)],
    }));
    expect(lineChart({ series, log: true, title: "long ".repeat(40), xLabel: "step", yLabel: "loss" }).height).toBe(420);
    expect(lineChart({ series: [{ name: "zero", x: [1], y: [0] }], log: true }).width).toBe(760);
  });

  it("says what is wrong", () => {
    const make = (options: Partial<ChartOptions>) => () => lineChart({ series: [{ name: "a", x: [1], y: [1] }], ...options });
    expect(make({ series: [] })).toThrow("A chart without lines; give at least one series.");
    expect(make({ series: [{ name: "loss", x: [1, 2], y: [1] }] })).toThrow('Series "loss" has 2 x for 1 y; expected as many.');
    expect(make({ width: 10 })).toThrow(/^A chart of 10 x 420 pixels/);
    expect(make({ yRange: [2, 1] })).toThrow(/^yRange is \[2, 1\]/);
    expect(make({ yRange: [0, 1], log: true })).toThrow(DrawError);
  });
});
