// Masks as they are stored, label maps, photometric distortion: against tests/reference/distortion.py and by random inputs.
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readGolden, testRegenerates } from "../../../tests/reference/golden.js";
import { Rng } from "../rng.js";
import { ade20kClasses } from "./ade20k.js";
import { cityscapesClasses, cityscapesTrainClasses } from "./cityscapes.js";
import { type Distortion, distort, drawDistortion } from "./distort.js";
import { decodeIndexPng } from "./index-png.js";
import { classesOfText, labelMap, mapLabels } from "./label-map.js";

interface File {
  mode: string;
  size: [number, number];
  values: number[];
  file: string;
}
const golden = readGolden<{
  pixels: number[][];
  changes: [number, number, number, number, boolean][];
  distorted: number[][][];
  files: Record<string, File>;
}>("distortion");

function chunk(type: string, content: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(content.length, 0);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, content, Buffer.alloc(4)]);
}

interface Written {
  depth?: number;
  colour?: number;
  interlaced?: number;
  /** Filter of each row, repeated. */
  filters?: readonly number[];
}

/** A PNG of rows of bytes, filtered as asked. */
function pngOf(
  width: number,
  rows: readonly Uint8Array[],
  { depth = 8, colour = 0, interlaced = 0, filters = [0] }: Written = {},
) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(rows.length, 4);
  header.set([depth, colour, 0, 0, interlaced], 8);
  const step = Math.max(1, depth >> 3);
  const lines = rows.map((row, y) => {
    const filter = filters[y % filters.length]!;
    const before = y > 0 ? rows[y - 1]! : new Uint8Array(row.length);
    const guess = (i: number): number => {
      const [a, b, c] = [i >= step ? row[i - step]! : 0, before[i]!, i >= step ? before[i - step]! : 0];
      if (filter === 4) {
        const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
        return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      }
      return [0, a, b, Math.floor((a + b) / 2)][filter]!;
    };
    return Uint8Array.from([filter, ...row.map((value, i) => value - guess(i))]);
  });
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const data = deflateSync(Buffer.concat(lines));
  // In two parts, as files of some size have it.
  const parts = [data.subarray(0, 5), data.subarray(5)].map((part) => chunk("IDAT", part));
  return Buffer.concat([signature, chunk("IHDR", header), ...parts, chunk("IEND", new Uint8Array(0))]);
}

describe("masks as PNG files", () => {
  for (const [name, { mode, size, values, file }] of Object.entries(golden.files)) {
    test(`${name}: the numbers that Pillow wrote`, () => {
      const { width, height, data } = decodeIndexPng(Buffer.from(file, "base64"));
      expect([width, height]).toEqual(size);
      expect(Array.from(data)).toEqual(mode === "1" ? values.map((value) => value / 255) : values);
    });
  }
  testRegenerates("distortion", ["torch", "PIL"]);

  test("every filter, at any size", () => {
    const rows = fc
      .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 7 }), fc.constantFrom(8, 16))
      .chain(([width, height, depth]) =>
        fc.record({
          width: fc.constant(width),
          depth: fc.constant(depth),
          rows: fc.array(fc.uint8Array({ minLength: (width * depth) / 8, maxLength: (width * depth) / 8 }), {
            minLength: height,
            maxLength: height,
          }),
          filters: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 7 }),
        }),
      );
    fc.assert(
      fc.property(rows, ({ width, depth, rows, filters }) => {
        const { data } = decodeIndexPng(pngOf(width, rows, { depth, filters }));
        const bytes = rows.flatMap((row) => [...row]);
        const expected =
          depth === 8 ? bytes : Array.from({ length: bytes.length / 2 }, (_, i) => 256 * bytes[2 * i]! + bytes[2 * i + 1]!);
        expect(Array.from(data)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  test("what is no such file is refused, in words", () => {
    const rows = [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5, 6)];
    const good = pngOf(3, rows);
    expect(() => decodeIndexPng(Buffer.from("hello, this is text"))).toThrow("it is not a PNG file");
    expect(() => decodeIndexPng(Buffer.alloc(0))).toThrow("it is not a PNG file");
    expect(() => decodeIndexPng(pngOf(1, [Uint8Array.of(1, 2, 3)], { colour: 2 }))).toThrow(
      "it holds RGB colours; expected one number a pixel",
    );
    expect(() => decodeIndexPng(pngOf(3, rows, { interlaced: 1 }))).toThrow("it is interlaced");
    expect(() => decodeIndexPng(pngOf(3, rows, { filters: [7] }))).toThrow("unknown filter");
    for (let end = 8; end < good.length - 12; end++)
      expect(() => decodeIndexPng(good.subarray(0, end)), `${end} bytes`).toThrow(/cut off|damaged/);
    // Fewer rows than the header says, and more.
    const short = pngOf(3, rows);
    short.writeUInt32BE(3, 20);
    expect(() => decodeIndexPng(short)).toThrow("cut off or damaged");
    short.writeUInt32BE(1, 20);
    expect(() => decodeIndexPng(short)).toThrow("cut off or damaged");
  });
});

describe("label maps", () => {
  test("published classes", () => {
    expect(ade20kClasses).toHaveLength(150);
    expect(new Set(ade20kClasses).size).toBe(150);
    expect([ade20kClasses[0], ade20kClasses[12], ade20kClasses[149]]).toEqual(["wall", "person", "flag"]);
    expect(cityscapesClasses).toHaveLength(19);
    expect(cityscapesTrainClasses[13]).toEqual({ value: 13, name: "car" });
  });
  test("numbers become classes, 255 and what is asked for none", () => {
    const map = labelMap([{ value: 3, name: "a" }, { value: 300, name: "b" }], { ignore: [0] }); // biome-ignore format: classes
    expect(mapLabels(Uint16Array.of(3, 300, 0, 255, 3), map)).toEqual({ labels: Uint8Array.of(0, 1, 255, 255, 0), unknown: -1 });
    expect(mapLabels(Uint8Array.of(3, 3, 4), map).unknown).toBe(2);
    expect(mapLabels(Uint16Array.of(301), map).unknown).toBe(0);
  });
  test("Cityscapes' labelIds: other numbers have no class", () => {
    const map = labelMap(cityscapesClasses, { othersIgnored: true });
    expect([...mapLabels(Uint8Array.of(0, 7, 8, 9, 33, 26, 255), map).labels]).toEqual([255, 0, 1, 255, 18, 13, 255]);
  });
  test("a class may be number 255 where that is said", () => {
    const map = labelMap([{ value: 0, name: "ground" }, { value: 255, name: "object" }]); // biome-ignore format: classes
    expect([...mapLabels(Uint8Array.of(0, 255), map).labels]).toEqual([0, 1]);
  });
  test("contradictions are refused", () => {
    const two = [{ value: 0, name: "a" }, { value: 1, name: "b" }]; // biome-ignore format: classes
    expect(() => labelMap(two, { ignore: [1] })).toThrow("The number 1 of masks stands for the class b and for no class");
    expect(() => labelMap([...two, { value: 0, name: "c" }])).toThrow("stands for the class a and for the class c");
    expect(() => labelMap(two.slice(0, 1))).toThrow("Segmentation of 1 classes; expected 2 or more");
    expect(() => labelMap(Array.from({ length: 256 }, (_, value) => ({ value, name: "x" })))).toThrow("expected at most 255");
    expect(() => labelMap([...two, { value: 70000, name: "c" }])).toThrow("cannot hold the number 70000");
  });
  test("classes of a text", () => {
    expect(classesOfText("# names\nsky\n\nsea and land\n", "c.txt", 1)).toEqual([{ value: 1, name: "sky" }, { value: 2, name: "sea and land" }]); // biome-ignore format: classes
    expect(classesOfText("0: none\n7 car\n12,\ttree\r\n", "c.txt")).toEqual([{ value: 0, name: "none" }, { value: 7, name: "car" }, { value: 12, name: "tree" }]); // biome-ignore format: classes
    expect(() => classesOfText("0 a\nb\n", "c.txt")).toThrow('c.txt, line 2: "b" has no number');
    expect(() => classesOfText("0 a\n\n0 b\n", "c.txt")).toThrow("c.txt, line 3: the number 0 was given on line 1");
  });
});

describe("photometric distortion", () => {
  test("equals the standard library's HSV, to a step of 8 bits", () => {
    const { pixels, changes, distorted } = golden;
    const plane = pixels.length;
    const planes = Uint8Array.from({ length: 3 * plane }, (_, i) => pixels[i % plane]![Math.floor(i / plane)]!);
    for (const [i, [brightness, contrast, saturation, hue, contrastFirst]] of changes.entries()) {
      const data = planes.slice();
      distort(data, plane, { brightness, contrast, saturation, hue, contrastFirst });
      // A half may be rounded the other way, and contrast stretches that.
      const allowed = (saturation !== 1 || hue !== 0 ? 1 : 0) * (contrastFirst ? 1 : 2);
      for (const [p, expected] of distorted[i]!.entries()) {
        for (const [c, value] of expected.entries()) {
          expect(Math.abs(data[c * plane + p]! - value), `change ${i}, pixel ${p}`).toBeLessThanOrEqual(allowed);
        }
      }
    }
  });
  test("draws: each change half of the time, inside its range; grey images keep to brightness and contrast", () => {
    const counts = { brightness: 0, contrast: 0, saturation: 0, hue: 0, contrastFirst: 0 };
    const drawn = Array.from({ length: 2000 }, (_, i): Distortion => drawDistortion(new Rng(1, 0, i, 5)));
    for (const each of drawn) {
      counts.brightness += Number(each.brightness !== 0);
      counts.contrast += Number(each.contrast !== 1);
      counts.saturation += Number(each.saturation !== 1);
      counts.hue += Number(each.hue !== 0);
      counts.contrastFirst += Number(each.contrastFirst);
      expect(Math.abs(each.brightness)).toBeLessThanOrEqual(32);
      for (const factor of [each.contrast, each.saturation]) expect(Math.abs(factor - 1)).toBeLessThanOrEqual(0.5);
      expect(each.hue).toBeGreaterThanOrEqual(-36);
      expect(each.hue).toBeLessThanOrEqual(34);
    }
    for (const count of Object.values(counts)) expect(Math.abs(count / 2000 - 0.5)).toBeLessThan(0.05);
    const grey = Uint8Array.of(10, 100, 200);
    distort(grey, 3, { brightness: 5, contrast: 1, saturation: 1.5, hue: 20, contrastFirst: true });
    expect([...grey]).toEqual([15, 105, 205]);
  });
});
