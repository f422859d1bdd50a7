// A learned bias of attention by relative position over a whole grid of patches (BEiT, CAE's fine-tuning; Swin has it inside of windows). Names
// and order of the table's rows are timm's Beit's: one row for each offset between two patches, then those of class token to patch, of
// patch to class token and of class token to itself.
import { init, Module, parameter, ShapeError } from "../nn/index.js";
import { cat, type Device, empty, interpolate, keep, type Tensor, tensor, tidy } from "../torch/index.js";
import type { Grid } from "./position.js";

/** Rows of a grid's table. @param prefix 1 where a class token comes before the patches, else 0 */
export function biasRows([rows, columns]: Grid, prefix: number): number {
  return (2 * rows - 1) * (2 * columns - 1) + 3 * prefix;
}

/** One table for all blocks. */
export class RelativePositionBias extends Module {
  /** [rows, heads], zeros at first */
  relativePositionBiasTable: Tensor;
  constructor(rows: number, heads: number) {
    super();
    this.relativePositionBiasTable = parameter(init.constant_(empty([rows, heads]), 0));
  }
  /** The table itself; `RelativeIndex` makes biases of it. */
  forward(): Tensor {
    return this.relativePositionBiasTable.alias();
  }
}

/** The table's row for each pair of tokens of a grid: [n][n] flattened. */
function rowNumbers([rows, columns]: Grid, prefix: number): number[] {
  const count = rows * columns + prefix;
  const offsets = (2 * rows - 1) * (2 * columns - 1);
  const numbers: number[] = [];
  for (let a = 0; a < count; a++) {
    for (let b = 0; b < count; b++) {
      const [from, to] = [a - prefix, b - prefix];
      if (from < 0 || to < 0) numbers.push(offsets + (from < 0 ? (to < 0 ? 2 : 0) : 1));
      else {
        const down = Math.floor(from / columns) - Math.floor(to / columns) + rows - 1;
        numbers.push(down * (2 * columns - 1) + (from % columns) - (to % columns) + columns - 1);
      }
    }
  }
  return numbers;
}

/** Makes the biases of grids from tables of one grid, and remembers which row goes where. */
export class RelativeIndex {
  readonly #known = new Map<string, Tensor>();

  /** @param grid what tables are made for */
  constructor(
    readonly grid: Grid,
    readonly prefix: number,
  ) {}

  /**
   * The bias of each pair of tokens of a grid, [heads, n, n]; for another grid than the table's its offsets are resized.
   *
   * @param table [rows, heads]
   */
  bias(table: Tensor, grid: Grid): Tensor {
    return tidy(() => {
      const rows = resizeBiasTable(table, this.grid, grid, this.prefix);
      const count = grid[0] * grid[1] + this.prefix;
      return rows.indexSelect(0, this.#index(grid, table.device)).view([count, count, -1]).permute([2, 0, 1]);
    });
  }

  #index(grid: Grid, device: Device): Tensor {
    const key = `${grid.join()} ${device}`;
    const known = this.#known.get(key);
    if (known) return known;
    const made = keep(tensor(rowNumbers(grid, this.prefix), { dtype: "int64" }).to(device));
    this.#known.set(key, made);
    return made;
  }
}

/**
 * A table for another grid: offsets bicubic, the class token's rows as they are. The same grid gives the very same values.
 *
 * @param from undefined stands for the square grid that the table's length belongs to
 *
 * @throws ShapeError for a table that fits no such grid
 */
export function resizeBiasTable(table: Tensor, from: Grid | undefined, to: Grid, prefix: number, name = "the table"): Tensor {
  const [length = 0, heads = 0] = table.shape;
  const offsets = length - 3 * prefix;
  const side = (Math.sqrt(offsets) + 1) / 2;
  const [rows, columns] = from ?? [side, side];
  if (!Number.isInteger(rows) || biasRows([rows, columns], prefix) !== length) {
    const expected = from ? `${biasRows(from, prefix)}, for a grid of ${from.join(" x ")}` : "those of a square grid";
    throw new ShapeError(`${name} of relative positions has ${length} rows; expected ${expected}`);
  }
  if (rows === to[0] && columns === to[1]) return table.alias();
  return tidy(() => {
    const image = table
      .narrow(0, 0, offsets)
      .transpose(0, 1)
      .reshape([1, heads, 2 * rows - 1, 2 * columns - 1]);
    const resized = interpolate(image, { size: [2 * to[0] - 1, 2 * to[1] - 1], mode: "bicubic" });
    const flat = resized.flatten(2).select(0, 0).transpose(0, 1);
    return prefix === 0 ? flat.contiguous() : cat([flat, table.slice(0, offsets)], 0);
  });
}
