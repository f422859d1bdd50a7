import { describe, expect, it } from "vitest";
import { type RgbImage, type StripOptions, stripChart } from "./index.js";

const rows = [{ name: "pixels", muted: true }, { name: "none" }, { name: "attention" }];
const panel = { title: "k-NN", values: [[35], [70, 71], [72, 73]] };

/** Columns in which a colour is seen, between two rows of pixels. */
function columnsOf({ width, data }: RgbImage, color: readonly number[], from: number, to: number): number[] {
  const found = new Set<number>();
  for (let at = from * width; at < to * width; at++) {
    if (color.every((value, c) => data[at * 3 + c] === value)) found.add(at % width);
  }
  return [...found].sort((a, b) => a - b);
}

describe("stripChart", () => {
  const blue = [0, 114, 178];
  const grey = [120, 120, 120];
  const top = 14 + 24; // without a title

  it("has a bar at each mean, to scale, rows below each other and panels side by side", () => {
    const image = stripChart({ rows: rows.slice(1), panels: [{ title: "k-NN", values: panel.values.slice(1) }], reference: 0 });
    const middle = (row: number) => {
      const all = columnsOf(image, blue, top + row * 30, top + row * 30 + 30);
      expect(all.length).toBe(3);
      return all[1]!;
    };
    // From 69.7 to 73.3 over 300 pixels: 2 apart.
    expect(middle(1) - middle(0)).toBeCloseTo((2 / 3.6) * 300, -1);
    expect(stripChart({ rows, panels: [panel, panel] }).width - stripChart({ rows, panels: [panel] }).width).toBe(326);
  });

  it("does not let a muted row far away squeeze the others: its number stands at the edge", () => {
    const alone = stripChart({ rows: rows.slice(1), panels: [{ title: "k-NN", values: panel.values.slice(1) }] });
    const far = stripChart({ rows, panels: [panel] });
    const bars = (image: RgbImage, from: number) => columnsOf(image, blue, from, from + 60).map((x) => x - image.width);
    expect(bars(far, top + 30)).toEqual(bars(alone, top));
    expect(columnsOf(far, grey, top, top + 30).length).toBeGreaterThan(20);
    const near = stripChart({ rows, panels: [{ ...panel, values: [[69], ...panel.values.slice(1)] }] });
    expect(columnsOf(near, grey, top + 2, top + 5).length).toBe(0);
    expect(bars(near, top + 30)).not.toEqual(bars(alone, top));
  });

  it("takes rows without values, one value, and long names", () => {
    const image = stripChart({ rows, panels: [{ title: "t".repeat(200), values: [[], [50], []] }], title: "long ".repeat(50) });
    expect(image.height).toBe(14 + 30 + 24 + 90 + 24 + 14);
    const names = rows.map(({ name }) => ({ name: name.repeat(30) }));
    expect(stripChart({ rows: names, panels: [panel] }).width).toBe(14 + 320 + 14 + 326);
  });

  it("says what is wrong", () => {
    const make = (options: Partial<StripOptions>) => () => stripChart({ rows, panels: [panel], ...options });
    expect(make({ rows: [] })).toThrow("A strip chart without rows or panels; give at least one.");
    expect(make({ panels: [{ title: "a", values: [[1]] }] })).toThrow('Panel "a" has values for 1 rows; expected 3.');
    expect(make({ panels: [{ title: "a", values: [[1], [Number.NaN], []] }] })).toThrow(
      /Panel "a" has a value that is not finite/,
    );
    expect(make({ reference: 3 })).toThrow("The reference is row 3; expected 0 to 2.");
  });
});
