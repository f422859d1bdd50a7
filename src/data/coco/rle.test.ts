import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { polygonMask } from "./polygon.js";
import {
  decodeMask,
  encodeMask,
  fromRleJson,
  type MaskSize,
  maskArea,
  maskBox,
  mergeMasks,
  packCounts,
  type Rle,
  sharedArea,
  toRleJson,
  unpackCounts,
} from "./rle.js";

const size = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }));
const pixels = ([h, w]: MaskSize) => fc.array(fc.integer({ min: 0, max: 1 }), { minLength: h * w, maxLength: h * w });
const masks = (count: number) =>
  size.chain((s) => fc.tuple(fc.constant(s), fc.tuple(...Array.from({ length: count }, () => pixels(s)))));

describe("run lengths", () => {
  it("go down the columns, the outside first", () => {
    expect([...encodeMask([0, 1, 0, 1, 1, 0], [2, 3]).counts]).toEqual([1, 3, 2]);
    expect([...encodeMask([1, 0, 0, 0], [2, 2]).counts]).toEqual([0, 1, 3]);
    expect([...encodeMask([0, 0, 0, 0], [2, 2]).counts]).toEqual([4]);
    expect([...encodeMask([1, 1], [1, 2]).counts]).toEqual([0, 2]);
  });

  it("come back as the mask, plain and packed", () => {
    fc.assert(
      fc.property(masks(1), ([s, [mask]]) => {
        const rle = encodeMask(mask!, s);
        expect([...decodeMask(rle)]).toEqual(mask);
        expect(unpackCounts(packCounts(rle.counts))).toEqual(rle.counts);
        expect(fromRleJson(toRleJson(rle))).toEqual(rle);
        expect(fromRleJson({ size: s, counts: [...rle.counts] })).toEqual(rle);
        expect(maskArea(rle)).toBe(mask!.reduce((a, b) => a + b, 0));
      }),
    );
  });

  it("pack any numbers", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0x7fffffff }), { maxLength: 12 }), (counts) => {
        expect([...unpackCounts(packCounts(Uint32Array.from(counts)))]).toEqual(counts);
      }),
    );
  });

  it("of a window are those of the whole image with the window in it", () => {
    const place = fc.tuple(fc.integer({ min: -6, max: 10 }), fc.integer({ min: -6, max: 10 }));
    fc.assert(
      fc.property(masks(1), size, place, ([s, [mask]], [height, width], [top, left]) => {
        const whole = new Uint8Array(height * width);
        for (let y = 0; y < s[0]; y++) {
          for (let x = 0; x < s[1]; x++) {
            const [ty, tx] = [y + top, x + left];
            if (ty >= 0 && tx >= 0 && ty < height && tx < width) whole[ty * width + tx] = mask![y * s[1] + x]!;
          }
        }
        const rle = encodeMask(mask!, s, { top, left, size: [height, width] });
        expect(rle).toEqual(encodeMask(whole, [height, width]));
      }),
    );
  });

  it("merge, intersect, and have the area and box of their pixels", () => {
    fc.assert(
      fc.property(masks(3), ([s, given]) => {
        const rles = given.map((mask) => encodeMask(mask, s));
        const both = (how: (...values: number[]) => number) => given[0]!.map((_, i) => how(...given.map((mask) => mask[i]!)));
        expect(mergeMasks(rles)).toEqual(encodeMask(both(Math.max), s));
        expect(mergeMasks(rles, "intersection")).toEqual(encodeMask(both(Math.min), s));
        expect(sharedArea(rles[0]!, rles[1]!)).toBe(given[0]!.filter((value, i) => value && given[1]![i]).length);
        const inside = given[0]!.flatMap((value, i) => (value ? [[i % s[1], Math.floor(i / s[1])] as const] : []));
        const [xs, ys] = [inside.map(([x]) => x), inside.map(([, y]) => y)];
        const box = [
          Math.min(...xs),
          Math.min(...ys),
          Math.max(...xs) - Math.min(...xs) + 1,
          Math.max(...ys) - Math.min(...ys) + 1,
        ];
        expect(maskBox(rles[0]!)).toEqual(inside.length === 0 ? [0, 0, 0, 0] : box);
      }),
    );
  });

  it("of one pixel", () => {
    for (const at of [0, 5, 11]) {
      const mask = Uint8Array.from({ length: 12 }, (_, i) => Number(i === at));
      const rle = encodeMask(mask, [3, 4]);
      expect([maskArea(rle), maskBox(rle)]).toEqual([1, [at % 4, Math.floor(at / 4), 1, 1]]);
      expect(decodeMask(fromRleJson(toRleJson(rle)))).toEqual(mask);
    }
    expect(maskArea(polygonMask([2, 1, 3, 1, 3, 2, 2, 2], [3, 4]))).toBe(1);
  });

  it("may have runs of no pixels", () => {
    const odd: Rle = { size: [2, 3], counts: Uint32Array.of(0, 0, 2, 0, 0, 3, 0, 1) };
    expect([...decodeMask(odd)]).toEqual([0, 1, 1, 0, 1, 1]);
    expect(maskBox(odd)).toEqual([1, 0, 2, 2]);
    expect(maskArea(odd)).toBe(4);
    const even = encodeMask([0, 0, 1, 1, 1, 0], [2, 3]);
    expect(sharedArea(odd, even)).toBe(2);
    expect(mergeMasks([odd, even])).toEqual(encodeMask([0, 1, 1, 1, 1, 1], [2, 3]));
  });

  it("that do not fit are refused", () => {
    const refused = (size: number[], counts: string | number[], text: RegExp) =>
      expect(() => fromRleJson({ size, counts })).toThrow(text);
    refused([2, 2], [1, 2], /runs of a mask of 2 x 2 pixels add up to 3; expected 4/);
    refused([2, 2], [1, -1, 4], /Run 1 of a mask is -1; expected a whole number/);
    refused([2, 0], [0], /size is \[2,0\]; expected \[height, width\]/);
    refused([2, 2], "4P", /cut off/);
    refused([2, 2], "4\u00ff", /damaged at letter 2/);
    refused([2, 2], "O", /run 0 would be -1 pixels long/);
    refused([2, 2], null as unknown as string, /neither a string nor a list/);
    expect(() => encodeMask([1, 0], [2, 2])).toThrow(/2 x 2 pixels has 2 values; expected 4/);
    expect(() => mergeMasks([encodeMask([1, 0], [1, 2]), encodeMask([1, 0], [2, 1])])).toThrow(
      /1 x 2 and 2 x 1 pixels cannot be merged/,
    );
  });
});
