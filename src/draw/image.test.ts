import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tensor, tidy, zeros } from "../torch/index.js";
import {
  blank,
  type Color,
  DrawError,
  drawText,
  enlarge,
  factorFor,
  fillRect,
  fitText,
  grid,
  imagesOf,
  stacked,
  textHeight,
  textWidth,
  transposed,
} from "./index.js";

const at = ({ width, data }: { width: number; data: Uint8Array }, x: number, y: number): number[] => [
  ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
];
const red: Color = [255, 0, 0];

describe("images", () => {
  it("are the bytes of tensors, clamped, with what is not finite in magenta", () => {
    tidy(() => {
      const [grey] = imagesOf(tensor([0, 0.5, 1, -3, 9, Number.NaN]).view([1, 1, 2, 3]));
      expect([grey!.width, grey!.height]).toEqual([3, 2]);
      expect([0, 1, 2].map((x) => at(grey!, x, 0)[0])).toEqual([0, 128, 255]);
      expect([0, 1].map((x) => at(grey!, x, 1))).toEqual([
        [0, 0, 0],
        [255, 255, 255],
      ]);
      expect(at(grey!, 2, 1)).toEqual([255, 0, 255]);
      const pair = imagesOf(tensor([0, 1, 0.2, 0.4, 0.6, 0.8]).view([2, 3, 1, 1]));
      expect(pair.map((each) => at(each, 0, 0))).toEqual([
        [0, 255, 51],
        [102, 153, 204],
      ]);
    });
  });

  it("are enlarged by whole factors without a new colour", () => {
    const property = fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 5 }),
      (width, height, factor) => {
        const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => i * 37);
        const large = enlarge({ width, height, data }, factor);
        expect([large.width, large.height]).toEqual([width * factor, height * factor]);
        for (let y = 0; y < large.height; y++) {
          for (let x = 0; x < large.width; x++) {
            expect(at(large, x, y)).toEqual(at({ width, data }, Math.floor(x / factor), Math.floor(y / factor)));
          }
        }
      },
    );
    fc.assert(property, { numRuns: 30 });
    expect([28, 32, 8, 224, 500].map((size) => factorFor(size, 128))).toEqual([5, 4, 16, 1, 1]);
  });

  it("say what is wrong", () => {
    expect(() => blank(0, 3)).toThrow("An image of 0 x 3 pixels; expected whole numbers above 0.");
    expect(() => enlarge(blank(1, 1), 0.5)).toThrow(DrawError);
    expect(() => imagesOf(zeros([2, 2, 4, 4]), "original")).toThrow(
      "original has shape [2, 2, 4, 4]; expected [B, C, H, W] with 1 or 3 channels.",
    );
    expect(() => imagesOf(zeros([0, 1, 4, 4]))).toThrow(DrawError);
    expect(() => imagesOf([1] as never)).toThrow("images is object; expected a Tensor [B, C, H, W].");
  });
});

describe("grids", () => {
  it("put cells in rows and columns with gaps, headings and labels", () => {
    const [a, b] = [blank(10, 10, red), blank(10, 10, [0, 0, 255])];
    const plain = grid(
      [
        [a, b],
        [b, undefined],
      ],
      { cell: 20, gap: 4 },
    );
    expect([plain.width, plain.height]).toEqual([4 + 2 * 24, 4 + 2 * 24]);
    expect([at(plain, 4, 4), at(plain, 23, 23), at(plain, 24, 4), at(plain, 28, 4), at(plain, 4, 28)]).toEqual(
      [red, red, [255, 255, 255], [0, 0, 255], [0, 0, 255]].map((each) => [...each]),
    );
    expect(at(plain, 30, 30)).toEqual([255, 255, 255]);
    const labelled = grid([[a, b]], { cell: 20, gap: 4, columns: ["a", "b"], rows: ["first"] });
    expect(labelled.height).toBe(4 + textHeight() + 4 + 24);
    expect(labelled.width).toBe(4 + textWidth("first") + 8 + 2 * 24);
    expect(at(labelled, labelled.width - 5, labelled.height - 5)).toEqual([0, 0, 255]);
    expect(
      transposed([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    const tower = stacked([a, blank(4, 2)], { gap: 3 });
    expect([tower.width, tower.height]).toEqual([10, 15]);
  });

  it("refuse to be empty or to have other numbers of labels", () => {
    expect(() => grid([])).toThrow("A grid without images; give at least one.");
    expect(() => grid([[blank(1, 1)]], { columns: ["a", "b"] })).toThrow("A grid of 1 columns has 2 labels for them.");
    expect(() => stacked([])).toThrow(DrawError);
  });
});

describe("text", () => {
  it("has another glyph for every printable character, and a box for the rest", () => {
    const drawn = (text: string): string => {
      const image = blank(20, 9);
      drawText(image, text, 0, 0, { scale: 1 });
      return Buffer.from(image.data).toString("base64") + textWidth(text);
    };
    const characters = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
    const all = new Set(characters.map(drawn));
    expect(all.size).toBe(95);
    expect(drawn("é")).toBe(drawn("中"));
    expect(all.has(drawn("é"))).toBe(false);
  });

  it("is as wide as it says, stays inside, is cut to fit, and reads upwards", () => {
    const image = blank(200, 60);
    drawText(image, "Agp", 10, 10, { scale: 2 });
    const dark = Array.from({ length: 200 }, (_, x) => x).filter((x) =>
      Array.from({ length: 60 }, (_, y) => at(image, x, y)[0]!).some((v) => v < 128),
    );
    expect([dark[0], dark.at(-1)]).toEqual([10, 10 + textWidth("Agp") - 1]);
    drawText(image, "far outside", -500, -500);
    drawText(image, "over the edge", 190, 55);
    const up = blank(30, 100);
    drawText(up, "l", 5, 50, { scale: 1, upwards: true });
    expect(at(up, 5, 50)[0]).toBeLessThan(128);
    expect(fitText("restored", 1000)).toBe("restored");
    expect(textWidth(fitText("restored", 60))).toBeLessThanOrEqual(60);
    expect(fitText("restored", 60)).toMatch(/^res.*\.\.$/);
    fillRect(image, 190, 50, 100, 100, red);
    expect(at(image, 199, 59)).toEqual([...red]);
  });
});
