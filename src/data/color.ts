// Pixel operations on planar 8-bit crops, in place, with the arithmetic of PIL's ImageEnhance, ImageOps and HSV conversion, which
// is what torchvision runs on images that come from files. `plane` is the number of pixels; three channels lie one after another.
import { luma } from "./pixels.js";

const table = new Uint8Array(256);
const round = Math.fround;

/** PIL's Image.blend of one value: float32, cut (not rounded) to 8 bits. */
function blend(degenerate: number, value: number, factor: number): number {
  const mixed = round(degenerate + round(factor * (value - degenerate)));
  return mixed <= 0 ? 0 : mixed >= 255 ? 255 : mixed | 0;
}

function applyTable(data: Uint8Array, at: number, length: number): void {
  for (let i = at; i < at + length; i++) data[i] = table[data[i]!]!;
}

/** Blends with black. */
export function brightness(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  const f = round(factor);
  for (let v = 0; v < 256; v++) table[v] = blend(0, v, f);
  applyTable(data, at, plane * channels);
}

/** Blends with the mean of the grey image, rounded. */
export function contrast(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  let sum = 0;
  if (channels === 1) {
    for (let i = at; i < at + plane; i++) sum += data[i]!;
  } else {
    for (let i = at; i < at + plane; i++) sum += luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!);
  }
  const mean = Math.floor(sum / plane + 0.5);
  const f = round(factor);
  for (let v = 0; v < 256; v++) table[v] = blend(mean, v, f);
  applyTable(data, at, plane * channels);
}

/** Blends each pixel with its grey value; nothing to do for grey images. */
export function saturation(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  if (channels === 1) return;
  const f = round(factor);
  for (let i = at; i < at + plane; i++) {
    const red = data[i]!;
    const green = data[i + plane]!;
    const blue = data[i + 2 * plane]!;
    const grey = luma(red, green, blue);
    data[i] = blend(grey, red, f);
    data[i + plane] = blend(grey, green, f);
    data[i + 2 * plane] = blend(grey, blue, f);
  }
}

// hsv -> rgb, per hue (0..255): which of the six sectors, and how far into it.
const sector = new Uint8Array(256);
const fraction = new Float64Array(256);
for (let h = 0; h < 256; h++) {
  const turns = (h * 6) / 255;
  sector[h] = Math.floor(turns) % 6;
  fraction[h] = round(turns - Math.floor(turns));
}

/** Turns the hue by `factor` of a full turn (-0.5..0.5), in PIL's 8-bit HSV; nothing to do for grey images. */
export function hue(data: Uint8Array, at: number, plane: number, channels: number, factor: number): void {
  if (channels === 1) return;
  const shift = Math.trunc(factor * 255) & 255;
  for (let i = at; i < at + plane; i++) {
    const r = data[i]!;
    const g = data[i + plane]!;
    const b = data[i + 2 * plane]!;
    const max = Math.max(r, g, b);
    const min = Math.min(r, g, b);
    if (max === min) continue;
    // To HSV. The roundings to float32 are those of PIL's C code: an 8-bit hue off by one is a visible step.
    const range = max - min;
    const saturated = (round(range / max) * 255) | 0;
    const rc = round((max - r) / range);
    const gc = round((max - g) / range);
    const bc = round((max - b) / range);
    const turn = r === max ? round(bc - gc) : g === max ? round(2 + rc - bc) : round(4 + gc - rc);
    const turned = turn / 6 + 1;
    const h = ((round(turned >= 1 ? turned - 1 : turned) * 255) | 0) + shift;
    // And back, with the hue turned.
    const whole = h & 255;
    const s = round(saturated / 255);
    const f = fraction[whole]!;
    const p = (max * (1 - s) + 0.5) | 0;
    const q = (max * (1 - round(s * f)) + 0.5) | 0;
    const t = (max * (1 - round(s * (1 - f))) + 0.5) | 0;
    let red = max;
    let green = p;
    let blue = q;
    switch (sector[whole]) {
      case 0:
        green = t;
        blue = p;
        break;
      case 1:
        red = q;
        green = max;
        blue = p;
        break;
      case 2:
        red = p;
        green = max;
        blue = t;
        break;
      case 3:
        red = p;
        green = q;
        blue = max;
        break;
      case 4:
        red = t;
        green = p;
        blue = max;
        break;
    }
    data[i] = red;
    data[i + plane] = green;
    data[i + 2 * plane] = blue;
  }
}

/** All three channels become the grey value. */
export function greyscale(data: Uint8Array, at: number, plane: number, channels: number): void {
  if (channels === 1) return;
  for (let i = at; i < at + plane; i++) {
    const grey = luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!);
    data[i] = grey;
    data[i + plane] = grey;
    data[i + 2 * plane] = grey;
  }
}

/** Values from `threshold` up are inverted. */
export function solarise(data: Uint8Array, at: number, plane: number, channels: number, threshold: number): void {
  for (let v = 0; v < 256; v++) table[v] = v < threshold ? v : 255 - v;
  applyTable(data, at, plane * channels);
}
