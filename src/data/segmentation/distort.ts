// Photometric distortion (Liu et al., SSD, 2016) as mmsegmentation has it, on planar 8-bit crops, in place: brightness, then contrast, saturation
// and hue, contrast before or after the other two. Values are clamped and cut to 8 bits after brightness and after contrast. Saturation and hue
// are changed together in HSV in floating point, where mmsegmentation rounds to 8 bits between them, and rounded once.
import type { Rng } from "../rng.js";

export interface Distortion {
  /** Added to every value; 0 for none. */
  readonly brightness: number;
  /** Factor on every value; 1 for none. */
  readonly contrast: number;
  /** Factor on the saturation; 1 for none. */
  readonly saturation: number;
  /** Added to the hue, in degrees; 0 for none. */
  readonly hue: number;
  readonly contrastFirst: boolean;
}

/** Each change with probability 0.5: brightness up to 32, contrast and saturation from 0.5 to 1.5, hue in even degrees up to 36 down and 34 up. */
export function drawDistortion(rng: Rng): Distortion {
  const half = <T>(none: T, value: () => T): T => {
    const [on, drawn] = [rng.chance(0.5), value()];
    return on ? drawn : none;
  };
  return {
    brightness: half(0, () => rng.uniform(-32, 32)),
    contrastFirst: rng.chance(0.5),
    contrast: half(1, () => rng.uniform(0.5, 1.5)),
    saturation: half(1, () => rng.uniform(0.5, 1.5)),
    // OpenCV's hue has 180 steps, and numpy's upper end is not drawn.
    hue: half(0, () => 2 * (rng.intBelow(36) - 18)),
  };
}

const table = new Uint8Array(256);

/** Every byte by `factor * byte + offset`, clamped and cut. */
function rescale(data: Uint8Array, factor: number, offset: number): void {
  for (let v = 0; v < 256; v++) table[v] = Math.trunc(Math.min(255, Math.max(0, v * factor + offset)));
  for (let i = 0; i < data.length; i++) data[i] = table[data[i]!]!;
}

/** @param data planes [channels][plane]; saturation and hue need three channels and are left out of grey images */
export function distort(data: Uint8Array, plane: number, distortion: Distortion): void {
  const { brightness, contrast, saturation, hue, contrastFirst } = distortion;
  if (brightness !== 0) rescale(data, 1, brightness);
  if (contrast !== 1 && contrastFirst) rescale(data, contrast, 0);
  if ((saturation !== 1 || hue !== 0) && data.length === 3 * plane) turn(data, plane, saturation, hue / 60);
  if (contrast !== 1 && !contrastFirst) rescale(data, contrast, 0);
}

/** Saturation times a factor, hue turned by so many sixths of the circle. */
function turn(data: Uint8Array, plane: number, factor: number, sixths: number): void {
  for (let i = 0; i < plane; i++) {
    const [r, g, b] = [data[i]!, data[i + plane]!, data[i + 2 * plane]!];
    const value = Math.max(r, g, b);
    const range = value - Math.min(r, g, b);
    if (range === 0) continue;
    const at = value === r ? (g - b) / range : value === g ? 2 + (b - r) / range : 4 + (r - g) / range;
    const hue = (((at + sixths) % 6) + 6) % 6;
    // Saturation is range / value, and at most 1.
    const spread = Math.min(value, range * factor);
    data[i] = channel(value, spread, hue, 5);
    data[i + plane] = channel(value, spread, hue, 3);
    data[i + 2 * plane] = channel(value, spread, hue, 1);
  }
}

/** HSV to one of RGB: value - spread max(0, min(k, 4 - k, 1)) with k = (n + hue) mod 6. */
function channel(value: number, spread: number, hue: number, n: number): number {
  const k = (n + hue) % 6;
  return Math.round(value - spread * Math.max(0, Math.min(k, 4 - k, 1)));
}
