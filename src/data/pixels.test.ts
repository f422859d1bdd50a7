// Resampling and pixel operations against Pillow (tests/reference/data_pixels.py made the golden values).
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gaussianBlur } from "./blur.js";
import { type Canvas, onCanvas } from "./canvas.js";
import { brightness, contrast, greyscale, hue, saturation, solarise } from "./color.js";
import type { Pixels } from "./pixels.js";
import { type Interpolation, resample } from "./resample.js";

interface Case {
  channels: 1 | 3;
  rough: boolean;
  size: [width: number, height: number];
  data: string;
}
interface Golden {
  resample: (Case & { filter: Interpolation; box: [number, number, number, number]; out: [number, number]; crop: boolean })[];
  colour: (Case & { op: string; factor: number })[];
  blur: (Case & { sigma: number; pil: string })[];
}
const golden = JSON.parse(
  readFileSync(new URL("../../tests/reference/goldens/data-pixels.json", import.meta.url), "utf8"),
) as Golden;

/** The pictures of data_pixels.py, interleaved. */
function picture([width, height]: [number, number], channels: 1 | 3, rough: boolean): Pixels {
  const data = new Uint8Array(width * height * channels);
  let i = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        const smooth = (x * 5 + y * 3 + c * 70 + Math.floor((x * y) / 9)) % 511;
        const jumps = (x * 97 + y * 57 + c * 131 + Math.floor((x * x * 31) / 7) + ((y * y * x) % 251)) % 256;
        data[i++] = rough ? jumps : smooth > 255 ? 510 - smooth : smooth;
      }
    }
  }
  return { width, height, channels, data };
}

function planar(image: Pixels): Uint8Array {
  const plane = image.width * image.height;
  const out = new Uint8Array(image.data.length);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < image.channels; c++) out[c * plane + i] = image.data[i * image.channels + c]!;
  }
  return out;
}

function onPicture(size: [number, number], channels: 1 | 3, rough: boolean, work: (canvas: Canvas) => void): Uint8Array {
  const out = planar(picture(size, channels, rough));
  onCanvas(out, 0, size[1], size[0], channels, work);
  return out;
}

function differences(actual: Uint8Array, expected: string): { largest: number; mean: number } {
  const reference = Buffer.from(expected, "base64");
  expect(actual.length).toBe(reference.length);
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < reference.length; i++) {
    const d = Math.abs(actual[i]! - reference[i]!);
    largest = Math.max(largest, d);
    sum += d;
  }
  return { largest, mean: sum / reference.length };
}

describe("resample", () => {
  for (const { filter, channels, rough, size, box, out, crop, data } of golden.resample) {
    it(`${filter} ${channels}ch ${rough ? "rough" : "smooth"} ${size} [${box}] -> ${out}${crop ? " cropped" : ""} equals Pillow`, () => {
      const [left, top, right, bottom] = box;
      const [width, height] = out;
      const target = new Uint8Array(channels * width * height);
      const area = { left, top, right, bottom };
      const bounds = crop ? area : { left: 0, top: 0, right: size[0], bottom: size[1] };
      const window = { box: area, bounds, width, height, x: 0, y: 0, flip: false, interpolation: filter };
      resample(picture(size, channels, rough), window, height, width, target, 0);
      expect(differences(target, data).largest).toBe(0);
    });
  }
});

describe("colour", () => {
  for (const { op, factor, channels, rough, size, data } of golden.colour) {
    it(`${op} ${factor} ${channels}ch ${rough ? "rough" : "smooth"} equals Pillow`, () => {
      const out = onPicture(size, channels, rough, (canvas) => {
        if (op === "brightness") brightness(canvas, factor);
        else if (op === "contrast") contrast(canvas, factor);
        else if (op === "saturation") saturation(canvas, factor);
        else if (op === "hue") hue(canvas, factor);
        else if (op === "solarize") solarise(canvas, factor);
        else greyscale(canvas);
      });
      expect(differences(out, data).largest).toBe(0);
    });
  }
});

/** Pillow's rgb2hsv and hsv2rgb, with torchvision's shift of the hue between them, for one pixel. */
function turnedByPillow([r, g, b]: readonly [number, number, number], factor: number): [number, number, number] {
  const f = Math.fround;
  const max = Math.max(r, g, b);
  const range = max - Math.min(r, g, b);
  if (range === 0) return [r, g, b];
  const [rc, gc, bc] = [r, g, b].map((value) => f((max - value) / range)) as [number, number, number];
  const h = f(r === max ? f(bc - gc) : g === max ? 2 + rc - bc : 4 + gc - rc);
  const hue = (Math.trunc(f((h / 6 + 1) % 1) * 255) + Math.trunc(factor * 255)) & 255;
  const s = f(Math.trunc(f(range / max) * 255) / 255);
  const sector = Math.floor((hue * 6) / 255);
  const part = f((hue * 6) / 255 - sector);
  const p = Math.round(max * (1 - s));
  const q = Math.round(max * (1 - f(s * part)));
  const t = Math.round(max * (1 - s * (1 - part)));
  const all = [
    [max, t, p],
    [q, max, p],
    [p, max, t],
    [p, q, max],
    [t, p, max],
    [max, p, q],
  ] as const;
  return [...all[sector % 6]!];
}

describe("hue of many colours", () => {
  it("equals Pillow", () => {
    // 48^3 colours that reach every value, and three turns.
    const values = Array.from({ length: 48 }, (_, i) => (i * 37) % 256);
    const colours = values.flatMap((r) => values.flatMap((g) => values.map((b) => [r, (g + 5) % 256, (b + 11) % 256] as const)));
    const plane = colours.length;
    for (const factor of [0, -0.1, 0.37]) {
      const out = new Uint8Array(3 * plane);
      for (const [i, colour] of colours.entries()) for (let c = 0; c < 3; c++) out[c * plane + i] = colour[c]!;
      onCanvas(out, 0, 1, plane, 3, (canvas) => hue(canvas, factor));
      for (const [i, colour] of colours.entries()) {
        const expected = turnedByPillow(colour, factor);
        for (let c = 0; c < 3; c++) {
          const difference = Math.abs(out[c * plane + i]! - expected[c]!);
          if (difference > 0) throw new Error(`${colour} turned by ${factor}: channel ${c} is ${difference} off`);
        }
      }
    }
  });
});

describe("factors without bounds", () => {
  it("end at black and white", () => {
    const out = Uint8Array.of(0, 1, 100, 255);
    onCanvas(out, 0, 1, 4, 1, (canvas) => brightness(canvas, Number.MAX_VALUE));
    expect([...out]).toEqual([0, 255, 255, 255]);
  });
});

describe("gaussianBlur", () => {
  for (const { sigma, channels, rough, size, data, pil } of golden.blur) {
    it(`sigma ${sigma} ${channels}ch ${rough ? "rough" : "smooth"} is the Gaussian, within one level`, () => {
      const out = onPicture(size, channels, rough, (canvas) => gaussianBlur(canvas, sigma));
      expect(differences(out, data).largest).toBeLessThanOrEqual(1);
      // Pillow approximates by three box blurs: near, but not the same.
      expect(differences(out, pil).mean).toBeLessThan(rough ? 4 : 1);
    });
  }
});
