// Which found object is which true one, by COCO's rule, in one image and category.

/** The overlaps from which on a found object counts as found: 0.50, 0.55, ... 0.95, as numpy's linspace(0.5, 0.95, 10) has them. */
export const thresholds: readonly number[] = Array.from({ length: 10 }, (_, i) =>
  i === 9 ? 0.95 : 0.5 + i * ((0.95 - 0.5) / 9),
);

/** Areas in pixels, both ends included. */
export const areas = {
  all: [0, 1e10],
  small: [0, 32 ** 2],
  medium: [32 ** 2, 96 ** 2],
  large: [96 ** 2, 1e10],
} as const;

/** In the order in which they are numbered here. */
export const areaNames = Object.keys(areas) as (keyof typeof areas)[];

const ranges = Object.values(areas);

function isOut(area: number, range: readonly [number, number]): boolean {
  return area < range[0] || area > range[1];
}

/** The true objects of one image and category. */
export interface Truths {
  readonly count: number;
  readonly areas: ArrayLike<number>;
  readonly crowd: ArrayLike<number>;
}

/** For each found object and range of areas, a bit for each threshold. */
export interface Verdicts {
  /** It is a true object that counts or does not. */
  readonly matched: Uint16Array;
  /** It counts neither as right nor as wrong. */
  readonly ignored: Uint16Array;
}

const ALL_BITS = (1 << 10) - 1;
/** The least overlap that can match. */
const LEAST = thresholds[0]!;

/** Adds to `counts`, for each range of areas, how many true objects are to be found. */
export function countTruths({ count, areas, crowd }: Truths, counts: Int32Array): void {
  for (let g = 0; g < count; g++) {
    if (crowd[g]) continue;
    for (let a = 0; a < ranges.length; a++) if (!isOut(areas[g]!, ranges[a]!)) counts[a]!++;
  }
}

/**
 * Matches found objects, best first, with true ones, for each threshold and range of areas. Each takes the true object that it overlaps most among
 * those that are left; one that counts comes before one that does not (a crowd, or one of another size), and a crowd is never used up. What was
 * matched with one that does not count is ignored, and so is what was matched with nothing and is itself of another size.
 *
 * @param overlaps [found * truths] @param sizes area of each found object @param verdicts filled from found object `first` on, at
 *   4 * object + range
 */
export function matchObjects(
  truths: Truths,
  overlaps: Float64Array,
  sizes: ArrayLike<number>,
  verdicts: Verdicts,
  first: number,
): void {
  const found = sizes.length;
  const { count } = truths;
  const best = new Float64Array(found);
  for (let d = 0; d < found; d++) {
    for (let g = 0; g < count; g++) best[d] = Math.max(best[d]!, overlaps[d * count + g]!);
  }
  const order = new Int32Array(count);
  const ignore = new Uint8Array(count);
  const used = new Uint16Array(count);
  for (let a = 0; a < ranges.length; a++) {
    let counted = 0;
    for (let g = 0; g < count; g++) {
      ignore[g] = Number(truths.crowd[g] || isOut(truths.areas[g]!, ranges[a]!));
      if (!ignore[g]) order[counted++] = g;
    }
    for (let g = 0, next = counted; g < count; g++) if (ignore[g]) order[next++] = g;
    used.fill(0);
    for (let d = 0; d < found; d++) {
      let [matched, ignored] = [0, 0];
      if (best[d]! >= LEAST) {
        for (let t = 0; t < thresholds.length; t++) {
          const bit = 1 << t;
          const chosen = choose(d * count, bit, Math.min(thresholds[t]!, 1 - 1e-10));
          if (chosen < 0) continue;
          used[chosen]! |= bit;
          matched |= bit;
          if (ignore[chosen]) ignored |= bit;
        }
      }
      if (isOut(sizes[d]!, ranges[a]!)) ignored |= ALL_BITS & ~matched;
      verdicts.matched[4 * (first + d) + a] = matched;
      verdicts.ignored[4 * (first + d) + a] = ignored;
    }
  }

  function choose(row: number, bit: number, least: number): number {
    let [chosen, most] = [-1, least];
    for (let i = 0; i < count; i++) {
      const g = order[i]!;
      if (used[g]! & bit && !truths.crowd[g]) continue;
      if (chosen >= 0 && !ignore[chosen] && ignore[g]) break;
      if (overlaps[row + g]! < most) continue;
      most = overlaps[row + g]!;
      chosen = g;
    }
    return chosen;
  }
}
