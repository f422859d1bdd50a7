// Anchors: boxes of some sizes and shapes at every cell of every level, which the proposal network corrects (torchvision's AnchorGenerator).
import { ShapeError } from "../../nn/index.js";
import { type Device, fromTypedArray, keep, type Tensor } from "../../torch/index.js";
import type { ImageSize } from "./boxes.js";

export interface AnchorConfig {
  /** Sides in pixels (roots of the area) at each level, finest first. */
  sizes: readonly (readonly number[])[];
  /** Height over width. Default 0.5, 1, 2. */
  ratios?: readonly number[];
}

export class AnchorGenerator {
  readonly sizes: readonly (readonly number[])[];
  readonly ratios: readonly number[];
  /** The last ones made: most batches of a training have few shapes. */
  readonly #known = new Map<string, Tensor>();

  constructor({ sizes, ratios = [0.5, 1, 2] }: AnchorConfig) {
    this.sizes = sizes;
    this.ratios = ratios;
    const counts = new Set(sizes.map(({ length }) => length));
    if (counts.size !== 1 || counts.has(0) || ratios.length === 0) {
      throw new ShapeError("anchors need as many sizes at each level, at least one, and at least one ratio of height to width");
    }
    if (![...sizes.flat(), ...ratios].every((value) => value > 0 && Number.isFinite(value))) {
      throw new ShapeError("sizes and ratios of anchors must be above 0");
    }
  }

  /** Anchors in each cell. */
  get perCell(): number {
    return this.sizes[0]!.length * this.ratios.length;
  }

  /** The anchors around a cell's corner: for each ratio all sizes, sides rounded to whole pixels, half of them either way. */
  around(level: number): [number, number, number, number][] {
    return this.ratios.flatMap((ratio) => {
      const root = Math.fround(Math.sqrt(ratio));
      const inverse = Math.fround(1 / root);
      return this.sizes[level]!.map((size): [number, number, number, number] => {
        const [w, h] = [roundEven(Math.fround(inverse * size) / 2), roundEven(Math.fround(root * size) / 2)];
        return [-w, -h, w, h];
      });
    });
  }

  /**
   * All anchors of an image: levels from the finest, cells row by row, then those of a cell. float32 [n, 4]; do not dispose or change it.
   *
   * @param grids height and width of the feature map of each level
   * @param padded height and width of the images as the network sees them, which the steps between cells follow from
   */
  forGrids(grids: readonly ImageSize[], padded: ImageSize, device: Device = "cpu"): Tensor {
    if (grids.length !== this.sizes.length) {
      throw new ShapeError(`there are anchors for ${this.sizes.length} levels, but ${grids.length} feature maps`);
    }
    const key = JSON.stringify([grids, padded, device]);
    const known = this.#known.get(key);
    if (known) return known;
    const cells = grids.reduce((sum, [rows, columns]) => sum + rows * columns, 0);
    const values = new Float32Array(cells * this.perCell * 4);
    let at = 0;
    for (const [level, [rows, columns]] of grids.entries()) {
      const [stepY, stepX] = [Math.floor(padded[0] / rows), Math.floor(padded[1] / columns)];
      const around = this.around(level);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const [x, y] = [column * stepX, row * stepY];
          for (const [left, top, right, bottom] of around) {
            values[at++] = x + left;
            values[at++] = y + top;
            values[at++] = x + right;
            values[at++] = y + bottom;
          }
        }
      }
    }
    const made = keep(fromTypedArray(values, [values.length / 4, 4], { device }));
    if (this.#known.size >= 32) {
      const [oldest, tensor] = this.#known.entries().next().value!;
      this.#known.delete(oldest);
      tensor.dispose();
    }
    this.#known.set(key, made);
    return made;
  }
}

/** To the nearest whole number, halves to the even one, as torch rounds. */
function roundEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
