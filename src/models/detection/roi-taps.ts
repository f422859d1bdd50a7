// Where RoIAlign (He et al. 2017, section 3) reads a feature map. Its bilinear samples are products of one weight by row and one by column, so an
// axis at a time is enough: for each bin the cells that are read, and how much each counts.

/** A region along one axis, in cells of the map. */
export interface AxisRegion {
  start: number;
  length: number;
}

/** Cells and weights of the bins of one axis: bin b has those from `first[b]` to `first[b + 1]`. */
export interface Taps {
  first: number[];
  cells: number[];
  weights: number[];
}

type Rounding = (value: number) => number;
/** Sums and products of float32 numbers, where the map is float32: the number of adaptive samples hangs on the last bit. */
export const roundingOf = (dtype: string): Rounding => (dtype === "float64" ? (value) => value : Math.fround);

/**
 * The region of one side of a box on a map.
 *
 * @param scale cells of the map over pixels of the image
 * @param aligned half a cell to the left, so that cells' centres are at whole numbers; without it regions are at least one cell long
 */
export function axisRegion(low: number, high: number, scale: number, aligned: boolean, round: Rounding): AxisRegion {
  const offset = aligned ? 0.5 : 0;
  const start = round(round(low * scale) - offset);
  const end = round(round(high * scale) - offset);
  const length = round(end - start);
  return { start, length: aligned ? length : Math.max(length, 1) };
}

/**
 * @param cells of the map along this axis
 * @param sampling samples in each bin; 0 or less: as many as the bin has cells, rounded up
 */
export function axisTaps({ start, length }: AxisRegion, bins: number, cells: number, sampling: number, round: Rounding): Taps {
  const size = round(length / bins);
  const samples = sampling > 0 ? sampling : Math.ceil(size);
  const taps: Taps = { first: [0], cells: [], weights: [] };
  for (let bin = 0; bin < bins; bin++) {
    const from = taps.cells.length;
    const add = (cell: number, weight: number): void => {
      for (let i = taps.cells.length - 1; i >= from; i--) {
        if (taps.cells[i] !== cell) continue;
        taps.weights[i]! += weight;
        return;
      }
      taps.cells.push(cell);
      taps.weights.push(weight);
    };
    for (let i = 0; i < samples; i++) {
      let at = round(round(start + round(bin * size)) + round(round((i + 0.5) * size) / samples));
      // Up to one cell outside, the map's edge goes on; beyond, there is nothing.
      if (at < -1 || at > cells) continue;
      at = Math.max(at, 0);
      const low = Math.floor(at);
      if (low >= cells - 1) add(cells - 1, 1 / samples);
      else {
        const high = round(at - low);
        add(low, (1 - high) / samples);
        add(low + 1, high / samples);
      }
    }
    taps.first.push(taps.cells.length);
  }
  return taps;
}
