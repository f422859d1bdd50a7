import { describe, expect, it } from "vitest";
import { matrixPicture, type RgbImage } from "./index.js";

const at = ({ width, data }: RgbImage, x: number, y: number) => [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
const darkness = (image: RgbImage, x: number, y: number) => 765 - at(image, x, y).reduce((a, b) => a + b, 0);

/** Where the cells lie: the frame is the only thing that is this dark and this long. */
function cellsOf(image: RgbImage): { left: number; top: number; side: number } {
  const dark = (x: number, y: number) => at(image, x, y).every((value) => value === 34);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width - 60; x++) {
      let length = 0;
      while (x + length < image.width && dark(x + length, y)) length++;
      if (length >= 60) return { left: x + 1, top: y + 1, side: length - 2 };
    }
  }
  throw new Error("no frame");
}

const diagonal = (count: number, value: number) =>
  Array.from({ length: count }, (_, r) => Array.from({ length: count }, (_, c) => (r === c ? value : 0)));
const named = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`);

describe("matrixPicture", () => {
  it("is dark where a row's images went, whatever the row's size; rows without images are grey", () => {
    const counts = [
      [9, 1, 0],
      [0, 500, 500],
      [0, 0, 0],
    ];
    const image = matrixPicture({ counts, names: ["a", "b", "c"], title: "t", rowLabel: "class", columnLabel: "taken for" });
    const { left, top, side } = cellsOf(image);
    const cell = side / 3;
    const corner = (r: number, c: number) => darkness(image, left + c * cell + 1, top + r * cell + 1);
    expect(Number.isInteger(cell)).toBe(true);
    expect(corner(0, 0)).toBeGreaterThan(corner(1, 1));
    expect(corner(1, 1)).toBe(corner(1, 2));
    expect(corner(1, 1)).toBeGreaterThan(corner(0, 1));
    expect(corner(0, 1)).toBeGreaterThan(60); // a tenth is well seen
    expect(corner(0, 2)).toBe(0);
    expect(at(image, left + 1, top + 2 * cell + 1)).toEqual([228, 228, 228]);
  });

  it("grows cells for large counts, and leaves numbers and names out where they are many", () => {
    const sides = [9, 12345].map((count) => cellsOf(matrixPicture({ counts: diagonal(4, count), names: named(4) })).side);
    expect(sides[1]!).toBeGreaterThan(sides[0]!);
    const heat = matrixPicture({ counts: diagonal(100, 5), names: named(100) });
    expect(cellsOf(heat).side).toBe(1000);
    expect(cellsOf(matrixPicture({ counts: diagonal(60, 5), names: named(60) })).side).toBeGreaterThan(1000);
  });

  it("puts several classes into a cell where they are a thousand", () => {
    const counts = diagonal(1000, 3);
    for (let r = 0; r < 4; r++) for (let c = 40; c < 44; c++) counts[r]![c] = 1;
    const image = matrixPicture({ counts, names: named(1000) });
    const { left, top, side } = cellsOf(image);
    expect(side).toBe(1000);
    const block = (r: number, c: number) => darkness(image, left + 4 * c + 2, top + 4 * r + 2);
    // Of the first four classes' 28 images, 16 were taken for the four around number 40.
    expect(block(0, 10)).toBeGreaterThan(block(0, 0));
    expect(block(1, 1)).toBeGreaterThan(block(0, 10));
    expect(block(0, 11)).toBe(0);
  });

  it("says what is wrong", () => {
    const make =
      (counts: number[][], names = named(counts.length)) =>
      () =>
        matrixPicture({ counts, names });
    expect(make([])).toThrow("A matrix without rows; give at least one.");
    expect(make([[1]], ["a", "b"])).toThrow("A matrix of 1 rows has 2 names; expected one each.");
    expect(make([[1, 2], [3]])).toThrow("Row 1 of the matrix has 1 columns; expected 2, one for each row.");
    expect(make([[0.5]])).toThrow("Row 0 of the matrix has a value that is no count; expected whole numbers, 0 or more.");
    expect(make([[-1]])).toThrow(/no count/);
  });
});
