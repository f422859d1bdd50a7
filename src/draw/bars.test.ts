import { describe, expect, it } from "vitest";
import { type Bar, barChart, type RgbImage } from "./index.js";

const blue = [0, 114, 178];

/** How many pixels of a row are blue. */
function bluesOf({ width, data }: RgbImage, row: number): number {
  let count = 0;
  for (let x = 0; x < width; x++) if (blue.every((value, c) => data[(row * width + x) * 3 + c] === value)) count++;
  return count;
}

/** Lengths of the bars, from the top. */
function lengthsOf(image: RgbImage): number[] {
  const rows = Array.from({ length: image.height }, (_, y) => bluesOf(image, y));
  return rows.filter((length, y) => length > 0 && rows[y - 1] === 0);
}

describe("barChart", () => {
  it("has a bar for each class in its order, to scale", () => {
    const bars: Bar[] = [
      { name: "cat", share: 0.5, note: "of 20" },
      { name: "dog", share: 1, note: "of 3" },
      { name: "none", share: null },
      { name: "emu", share: 0.25 },
    ];
    const [first, second, third, ...rest] = lengthsOf(barChart({ bars }));
    expect(rest).toEqual([]);
    // Each but for the axis, which lies over its first pixel.
    expect(second! + 1).toBe(2 * (first! + 1));
    expect(first! + 1).toBe(2 * (third! + 1));
    const image = barChart({ bars, title: "title", reference: 0.4, referenceLabel: "all" });
    expect(image.height).toBeGreaterThan(barChart({ bars }).height);
  });

  it("sorts the shares where they are many, those without a share left out", () => {
    const bars = Array.from(
      { length: 300 },
      (_, i): Bar => ({ name: `class ${i}`, share: i === 7 ? null : ((i * 37) % 300) / 300 }),
    );
    const image = barChart({ bars });
    expect(image.width).toBeLessThan(1100);
    expect(image.height).toBeLessThan(700);
    const rows = Array.from({ length: image.height }, (_, y) => bluesOf(image, y)).filter((count) => count > 0);
    // A slope: each row is as wide as the one above or wider.
    expect(rows).toEqual([...rows].sort((a, b) => a - b));
    expect(Math.max(...rows)).toBeGreaterThan(850);
    expect(barChart({ bars: bars.map(({ name }) => ({ name, share: null })) }).width).toBe(image.width);
  });

  it("says what is wrong", () => {
    expect(() => barChart({ bars: [] })).toThrow("A bar chart without bars; give at least one.");
    expect(() => barChart({ bars: [{ name: "a", share: 1.5 }] })).toThrow(
      'The bar "a" has the share 1.5; expected 0 to 1, or null.',
    );
    expect(() => barChart({ bars: [{ name: "a", share: Number.NaN }] })).toThrow(/share NaN/);
    expect(() => barChart({ bars: [{ name: "a", share: 1 }], reference: 2 })).toThrow("The reference is 2; expected 0 to 1.");
  });
});
