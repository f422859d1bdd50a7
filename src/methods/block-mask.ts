// Which patches CAE hides: blocks of patches up to an exact count (BEiT's generator, Bao et al., 2022, algorithm 1, as CAE's code has it), or
// patches one by one.
import type { Rng } from "../data/index.js";

export interface BlockMaskOptions {
  /** Patches that are hidden, exactly. */
  count: number;
  /** Fewest patches that a block is planned with. */
  smallest: number;
  /** Least aspect ratio of a block; the largest is its inverse. Default 0.3. */
  aspect?: number;
}

/** Blocks that were proposed without success, in a row, until patches are taken one by one; grids of a few patches may have no fitting block. */
const PATIENCE = 1000;

/**
 * Numbers of the hidden patches of a grid, ascending. A block's area is uniform between `smallest` and what is still to be hidden, its
 * aspect ratio log-uniform; it must be smaller than the grid both ways and hide something new, but not too much. Patches in the middle
 * are hidden far more often than those in the corners.
 */
export function blockMask(rng: Rng, [rows, columns]: readonly [number, number], options: BlockMaskOptions): number[] {
  const { count, smallest, aspect = 0.3 } = options;
  const hidden = new Uint8Array(rows * columns);
  let left = count;
  for (let failures = 0; left > 0 && failures < PATIENCE; ) {
    const area = rng.uniform(smallest, left);
    const ratio = Math.exp(rng.uniform(Math.log(aspect), -Math.log(aspect)));
    const [height, width] = [Math.round(Math.sqrt(area * ratio)), Math.round(Math.sqrt(area / ratio))];
    failures += 1;
    if (height >= rows || width >= columns) continue;
    const [top, start] = [rng.intBelow(rows - height + 1), rng.intBelow(columns - width + 1)];
    const fresh: number[] = [];
    for (let row = top; row < top + height; row++) {
      for (let column = start; column < start + width; column++) {
        const patch = row * columns + column;
        if (!hidden[patch]) fresh.push(patch);
      }
    }
    if (fresh.length === 0 || fresh.length > left) continue;
    for (const patch of fresh) hidden[patch] = 1;
    left -= fresh.length;
    failures = 0;
  }
  const seen = Array.from(hidden.keys()).filter((patch) => !hidden[patch]);
  for (const patch of rng.shuffle(seen).slice(0, left)) hidden[patch] = 1;
  return Array.from(hidden.keys()).filter((patch) => hidden[patch]);
}

/** `count` patches, each as likely as another, ascending. */
export function scatteredMask(rng: Rng, patches: number, count: number): number[] {
  const order = rng.shuffle(Array.from({ length: patches }, (_, i) => i));
  return order.slice(0, count).sort((a, b) => a - b);
}
