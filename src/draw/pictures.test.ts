import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { memoryStats, rand, tensor, tidy, zeros } from "../torch/index.js";
import {
  attentionGrid,
  blank,
  colorOf,
  DrawError,
  heatImage,
  keptImage,
  maskedImage,
  outlinedImage,
  patchGrids,
  reconstructionGrid,
  topMass,
} from "./index.js";

const grey = blank(12, 12, [100, 100, 100]);
const pixel = ({ width, data }: { width: number; data: Uint8Array }, x: number, y: number): number[] => [
  ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
];

describe("patches", () => {
  it("a mask covers exactly the masked patches", () => {
    const property = fc.property(fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }), (bits) => {
      const shown = maskedImage(grey, { rows: 3, columns: 4, values: Float32Array.from(bits, Number) });
      for (let y = 0; y < 12; y++) {
        for (let x = 0; x < 12; x++) {
          const masked = bits[Math.floor(y / 4) * 4 + Math.floor(x / 3)]!;
          expect(pixel(shown, x, y)[2] === 100).toBe(!masked);
        }
      }
    });
    fc.assert(property, { numRuns: 20 });
    expect(pixel(grey, 0, 0)).toEqual([100, 100, 100]);
  });

  it("an outline runs along the inner edge of what is marked, around groups of patches as a whole", () => {
    const values = Float32Array.from([0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
    const shown = outlinedImage(grey, { rows: 3, columns: 4, values }, [255, 0, 0]);
    const red = (x: number, y: number) => pixel(shown, x, y)[0] === 255;
    for (let y = 0; y < 12; y++) {
      for (let x = 0; x < 12; x++) {
        const inside = x >= 3 && x < 9 && y >= 4 && y < 8;
        expect(red(x, y), `${x}, ${y}`).toBe(inside && (x === 3 || x === 8 || y === 4 || y === 7));
      }
    }
  });

  it("heat has one colour a patch, from the first to the last of the map", () => {
    const heat = { rows: 2, columns: 2, values: Float32Array.of(0.1, 0.3, 0.2, 0.1) };
    const shown = heatImage(grey, heat, { colormap: "viridis", alpha: 1 });
    expect(pixel(shown, 5, 5)).toEqual([0x44, 0x01, 0x54]);
    expect(pixel(shown, 6, 0)).toEqual([0xfd, 0xe7, 0x25]);
    expect(pixel(shown, 0, 6)).toEqual([...colorOf("viridis", 0.5)]);
    expect(pixel(heatImage(grey, { ...heat, values: new Float32Array(4) }, { alpha: 1 }), 3, 3)).toEqual([0, 0, 4]);
    expect(pixel(heatImage(grey, { ...heat, values: Float32Array.of(Number.NaN, 1, 2, 3) }, { alpha: 1 }), 0, 0)).toEqual([
      255, 0, 255,
    ]);
    expect(pixel(heatImage(grey, heat, { alpha: 0 }), 0, 0)).toEqual([100, 100, 100]);
  });

  it("the top mass is the smallest set of patches that holds it", () => {
    const property = fc.property(
      fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 30 }),
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      (values, mass) => {
        const { values: kept } = topMass({ rows: 1, columns: values.length, values: Float32Array.from(values) }, mass);
        const total = values.reduce((a, b) => a + b, 0);
        const inside = values.filter((_, i) => kept[i] === 1).sort((a, b) => a - b);
        const outside = values.filter((_, i) => kept[i] === 0);
        const sum = inside.reduce((a, b) => a + b, 0);
        expect(sum).toBeGreaterThanOrEqual(mass * total - 1e-9 * total);
        expect(sum - inside[0]!).toBeLessThanOrEqual(mass * total + 1e-9 * total);
        for (const value of outside) expect(value).toBeLessThanOrEqual(inside[0]!);
      },
    );
    fc.assert(property);
    const shown = keptImage(blank(2, 1, [200, 10, 10]), { rows: 1, columns: 2, values: Float32Array.of(1, 0) });
    expect(pixel(shown, 0, 0)).toEqual([200, 10, 10]);
    expect(pixel(shown, 1, 0).every((value) => value < 60)).toBe(true);
  });

  it("say what is wrong", () => {
    expect(() => patchGrids(zeros([2, 5]), "mask")).toThrow(
      "mask has shape [2, 5]; expected [N, rows, columns] of patches, or [N, L] where L is a square.",
    );
    expect(() => maskedImage(blank(4, 4), { rows: 8, columns: 2, values: new Float32Array(16) })).toThrow(
      /^8 x 2 patches on an image of 4 x 4/,
    );
    expect(() => topMass({ rows: 1, columns: 1, values: Float32Array.of(1) }, 60)).toThrow(
      "mass is 60; expected a number from 0 to 1.",
    );
    expect(patchGrids(tensor([[1, 2, 3, 4]]), "mask")[0]).toMatchObject({ rows: 2, columns: 2 });
  });
});

describe("the pictures of a method", () => {
  it("show original, mask and reconstruction, and leave no tensor behind", () => {
    tidy(() => {
      const original = rand([3, 1, 28, 28]);
      const mask = rand([3, 7, 7]).lt(0.5);
      collectGarbage();
      const before = memoryStats().handles;
      const picture = reconstructionGrid({ original, mask, reconstruction: original, samples: 2 });
      expect([picture.width, picture.height]).toEqual([6 + 3 * 146, 6 + 24 + 2 * 146]);
      const across = reconstructionGrid({ original, reconstruction: original, direction: "across" });
      expect(across.height).toBe(6 + 2 * 146);
      expect(memoryStats().handles).toBe(before);
      // The reconstruction is the original here: both columns are the same pixels.
      expect(pixel(picture, 6 + 70, 30 + 70)).toEqual(pixel(picture, 6 + 2 * 146 + 70, 30 + 70));
    });
  });

  it("show the attention of each head and their mean", () => {
    tidy(() => {
      const image = rand([2, 3, 32, 32]);
      const attention = rand([2, 3, 64]);
      collectGarbage();
      const before = memoryStats().handles;
      expect(attentionGrid({ image, attention }).width).toBe(6 + 5 * 134);
      expect(attentionGrid({ image, attention, mean: false, mass: 0.6, samples: 1 }).width).toBe(6 + 4 * 134);
      expect(memoryStats().handles).toBe(before);
    });
  });

  it("say what is wrong", () => {
    const image = zeros([2, 1, 8, 8]);
    expect(() => reconstructionGrid({ original: image, reconstruction: zeros([1, 1, 8, 8]) })).toThrow(
      "reconstruction holds 1 samples, original 2; they must be of the same batch.",
    );
    expect(() => reconstructionGrid({ original: image, mask: zeros([3, 4]), reconstruction: image })).toThrow(
      /^mask holds 3 samples/,
    );
    expect(() => reconstructionGrid({ original: zeros([8, 8]), reconstruction: image })).toThrow(/^original has shape \[8, 8\]/);
    expect(() => reconstructionGrid({ original: image, reconstruction: image, samples: 0 })).toThrow(/^samples is 0/);
    expect(() => attentionGrid({ image, attention: zeros([2, 4]) })).toThrow(
      /^attention has shape \[2, 4\]; expected \[B, heads, rows, columns\]/,
    );
    expect(() => attentionGrid({ image, attention: zeros([2, 3, 5]) })).toThrow(DrawError);
  });
});
