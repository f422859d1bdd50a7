// Two perceptually uniform colour maps (by N. Smith and S. van der Walt, public domain), by ten colours each.
import type { Color } from "./image.js";

const table = (hex: string): Color[] =>
  hex.split(" ").map((each) => [0, 2, 4].map((at) => Number.parseInt(each.slice(at, at + 2), 16)) as unknown as Color);

const maps = {
  viridis: table("440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"),
  inferno: table("000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"),
};

export type Colormap = keyof typeof maps;

/** The colour of a value from 0 to 1 (clamped). */
export function colorOf(map: Colormap, value: number): Color {
  const colors = maps[map];
  const at = Math.min(1, Math.max(0, value)) * (colors.length - 1);
  const low = Math.min(colors.length - 2, Math.floor(at));
  const [a, b] = [colors[low]!, colors[low + 1]!];
  return [0, 1, 2].map((c) => Math.round(a[c]! + (b[c]! - a[c]!) * (at - low))) as unknown as Color;
}
