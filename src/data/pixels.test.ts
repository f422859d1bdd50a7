// Resampling and pixel operations against Pillow (tests/reference/data_pixels.py made the golden values).
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gaussianBlur } from "./blur.js";
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
      const out = planar(picture(size, channels, rough));
      const plane = size[0] * size[1];
      if (op === "brightness") brightness(out, 0, plane, channels, factor);
      else if (op === "contrast") contrast(out, 0, plane, channels, factor);
      else if (op === "saturation") saturation(out, 0, plane, channels, factor);
      else if (op === "hue") hue(out, 0, plane, channels, factor);
      else if (op === "solarize") solarise(out, 0, plane, channels, factor);
      else greyscale(out, 0, plane, channels);
      expect(differences(out, data).largest).toBe(0);
    });
  }
});

describe("gaussianBlur", () => {
  for (const { sigma, channels, rough, size, data, pil } of golden.blur) {
    it(`sigma ${sigma} ${channels}ch ${rough ? "rough" : "smooth"} is the Gaussian, within one level`, () => {
      const out = planar(picture(size, channels, rough));
      gaussianBlur(out, 0, size[1], size[0], channels, sigma);
      expect(differences(out, data).largest).toBeLessThanOrEqual(1);
      // Pillow approximates by three box blurs: near, but not the same.
      expect(differences(out, pil).mean).toBeLessThan(rough ? 4 : 1);
    });
  }
});
