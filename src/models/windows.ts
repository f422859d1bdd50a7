// A grid of tokens cut into windows and put together again, shifted or not (Liu et al., 2021, section 3.2 and figure 4).
import { pad, type Tensor, tensor, tidy } from "../torch/index.js";
import type { Window } from "./window-attention.js";

/** How a grid is cut: windows of this size, after a cyclic shift by so many tokens up and to the left. */
export interface Cut {
  window: Window;
  shift: readonly [rows: number, columns: number];
}

/** Windows shrink to a grid that is smaller than they are. Shifted ones shift by half of themselves, but where one covers a side. */
export function cutOf([rows, columns]: readonly [number, number], [height, width]: Window, shifted: boolean): Cut {
  const half = (side: number, window: number) => (shifted && side > window ? Math.floor(window / 2) : 0);
  return { window: [Math.min(rows, height), Math.min(columns, width)], shift: [half(rows, height), half(columns, width)] };
}

/** The sides rounded up to whole windows. */
function padded([rows, columns]: readonly [number, number], { window }: Cut): [number, number] {
  return [Math.ceil(rows / window[0]) * window[0], Math.ceil(columns / window[1]) * window[1]];
}

/** [B, H, W, C] -> [B windows, n, C]; what whole windows lack at the bottom and the right is filled with zeros. */
export function toWindows(x: Tensor, cut: Cut): Tensor {
  return tidy(() => {
    const [batch = 0, rows = 0, columns = 0, width = 0] = x.shape;
    const [down, right] = cut.shift;
    const shifted = down + right > 0 ? x.roll([-down, -right], [1, 2]) : x;
    const [height, breadth] = padded([rows, columns], cut);
    const whole = height > rows || breadth > columns ? pad(shifted, [0, 0, 0, breadth - columns, 0, height - rows]) : shifted;
    const [h, w] = cut.window;
    return whole
      .reshape([batch, height / h, h, breadth / w, w, width])
      .permute([0, 1, 3, 2, 4, 5])
      .reshape([-1, h * w, width]);
  });
}

/** The inverse of toWindows for a grid: [B windows, n, C] -> [B, H, W, C]. */
export function fromWindows(windows: Tensor, [rows, columns]: readonly [number, number], cut: Cut): Tensor {
  return tidy(() => {
    const [height, breadth] = padded([rows, columns], cut);
    const [h, w] = cut.window;
    const width = windows.size(-1);
    const whole = windows
      .reshape([-1, height / h, breadth / w, h, w, width])
      .permute([0, 1, 3, 2, 4, 5])
      .reshape([-1, height, breadth, width]);
    const cropped = height > rows || breadth > columns ? whole.narrow(1, 0, rows).narrow(2, 0, columns) : whole;
    const [down, right] = cut.shift;
    return down + right > 0 ? cropped.roll([down, right], [1, 2]) : cropped;
  });
}

/**
 * What keeps tokens that the shift brought together from other sides of the image apart: 0 or -100 for each pair of tokens, [windows, 1, n, n];
 * null where nothing is shifted.
 */
export function shiftMask(grid: readonly [number, number], cut: Cut): Tensor | null {
  const { window, shift } = cut;
  if (shift[0] + shift[1] === 0) return null;
  const [height, breadth] = padded(grid, cut);
  /** Which of the three strips a row or column is in: before the last window, in it, or brought around. */
  const strip = (at: number, length: number, side: number, by: number) => (at < length - side ? 0 : at < length - by ? 1 : 2);
  const regions: number[] = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < breadth; column++) {
      regions.push(3 * strip(row, height, window[0], shift[0]) + strip(column, breadth, window[1], shift[1]));
    }
  }
  return tidy(() => {
    const cells = toWindows(tensor(regions).view([1, height, breadth, 1]), { window, shift: [0, 0] }).select(2, 0);
    const apart = cells.unsqueeze(1).ne(cells.unsqueeze(2));
    return apart.float().mul(-100).unsqueeze(1);
  });
}
