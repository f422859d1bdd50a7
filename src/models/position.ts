// Position embeddings of patch grids: fixed sines and cosines, and both ways the field resizes learned ones.
import { cat, interpolate, type Tensor, tensor, tidy } from "../torch/index.js";

/** Rows and columns of patches. */
export type Grid = readonly [rows: number, columns: number];

export interface SinCosOptions {
  /**
   * Which coordinate the first half of the channels encodes. MoCo v3 and CAE write `w` but take it from an `ij` mesh, so it is the row;
   * MAE's is the column. The two differ by a transposition of the grid.
   */
  order?: "row-column" | "column-row";
  /** Default 10000. */
  temperature?: number;
}

/**
 * Fixed 2-D position embedding, [rows * columns, width]: sin and cos of one coordinate, then of the other, at width / 4 frequencies each
 * (MoCo v3, section 4; MAE). `width` must be a multiple of 4.
 */
export function sinCosPositions([rows, columns]: Grid, width: number, options: SinCosOptions = {}): Tensor {
  const { order = "row-column", temperature = 10000 } = options;
  if (width % 4 !== 0) throw new RangeError(`sin-cos positions need a width that is a multiple of 4, got ${width}`);
  const quarter = width / 4;
  const table: number[][] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [first, second] = order === "row-column" ? [row, column] : [column, row];
      const angles = (at: number) => Array.from({ length: quarter }, (_, i) => at / temperature ** (i / quarter));
      const a = angles(first);
      const b = angles(second);
      table.push([...a.map(Math.sin), ...a.map(Math.cos), ...b.map(Math.sin), ...b.map(Math.cos)]);
    }
  }
  return tensor(table);
}

/**
 * Three ways the field resizes positions, all bicubic; weights used under another one give other features.
 * - `exact`: asks for the target size (MAE).
 * - `timm`: the same with a low-pass filter when shrinking (timm's resample_abs_pos_embed).
 * - `dino`: asks for the scale factor (n + 0.1) / n0, whose sampling grid is another one (DINO's code).
 */
export type PositionResize = "exact" | "timm" | "dino";

/**
 * Resizes positions [1, prefix + rows * columns, C] to another grid; the `prefix` tokens stay. The same grid gives the very same values.
 *
 * @param how default exact
 */
export function resizePositions(positions: Tensor, from: Grid, to: Grid, prefix: number, how: PositionResize = "exact"): Tensor {
  if (from[0] === to[0] && from[1] === to[1]) return positions.alias();
  return tidy(() => {
    const width = positions.size(-1);
    const grid = positions.slice(1, prefix).reshape([1, from[0], from[1], width]).permute([0, 3, 1, 2]);
    const resized =
      how === "dino"
        ? interpolate(grid, { scaleFactor: [(to[0] + 0.1) / from[0], (to[1] + 0.1) / from[1]], mode: "bicubic" })
        : interpolate(grid, { size: to, mode: "bicubic", antialias: how === "timm" });
    const flat = resized.permute([0, 2, 3, 1]).reshape([1, to[0] * to[1], width]);
    return prefix === 0 ? flat : cat([positions.slice(1, 0, prefix), flat], 1);
  });
}
