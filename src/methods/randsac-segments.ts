// RandSAC's segments (Hua et al., 2023, section 3): which patches belong together, and which segments lie in one partition of a coarser level.
import { arange, noGrad, rand, type Tensor, tensor, zeros } from "../torch/index.js";

/** One level of grouping, from fine to coarse. B is 1 where all images share it. */
export interface Level {
  /** Number of groups, empty ones counted. */
  count: number;
  /** The group of each member of the level below (of each patch, at the first level), int64 [B, members]. */
  parent: Tensor;
  /** A number for each group that grows from the top left to the bottom right, [B, count]. */
  place: Tensor;
}

type Grid = readonly [rows: number, columns: number];

const indices = (values: number[]) => tensor(values, { dtype: "int64" }).unsqueeze(0);

/** Squares of `side` patches, then squares of each of `partitions` patches; each divides the next, and all the grid. */
export function squareLevels([rows, columns]: Grid, side: number, partitions: readonly number[]): Level[] {
  let [height, width, before] = [rows, columns, 1];
  return [side, ...partitions].map((size) => {
    const factor = size / before;
    const parent: number[] = [];
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        parent.push(Math.floor(row / factor) * (width / factor) + Math.floor(column / factor));
      }
    }
    [height, width, before] = [height / factor, width / factor, size];
    const count = height * width;
    return { count, parent: indices(parent), place: tensor(Array.from({ length: count }, (_, i) => i)).unsqueeze(0) };
  });
}

export interface BlobOptions {
  /** Components of each level, from fine to coarse. */
  counts: readonly number[];
  /** Range of the components' standard deviations, in sides of the grid. */
  deviation: readonly [number, number];
}

/**
 * Blobs: each level is a mixture of Gaussians, drawn for each image; a patch belongs to the nearest by Mahalanobis distance, a component to
 * the one of the coarser level that is nearest to its mean. Means are uniform over the grid, deviations along two axes uniform in a
 * range, turned by a uniform angle.
 */
export function blobLevels([rows, columns]: Grid, batch: number, { counts, deviation: [low, high] }: BlobOptions): Level[] {
  const centres: number[][] = [];
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) centres.push([row + 0.5, column + 0.5]);
  const side = Math.max(rows, columns);
  return noGrad(() => {
    let members = tensor(centres)
      .unsqueeze(0)
      .expand([batch, rows * columns, 2]);
    return counts.map((count) => {
      const mean = rand([batch, count, 2]).mul(tensor([rows, columns]));
      const deviations = rand([batch, count, 2])
        .mul((high - low) * side)
        .add(low * side);
      const angle = rand([batch, count]).mul(Math.PI);
      const [cos, sin] = [angle.cos(), angle.sin()];
      // [B, members, count]: the way from each mean, along the component's axes, in deviations.
      const [y, x] = members.unsqueeze(2).sub(mean.unsqueeze(1)).unbind(3) as [Tensor, Tensor];
      const [first, second] = deviations.unsqueeze(1).unbind(3) as [Tensor, Tensor];
      const along = x
        .mul(cos.unsqueeze(1))
        .add(y.mul(sin.unsqueeze(1)))
        .div(first);
      const across = y
        .mul(cos.unsqueeze(1))
        .sub(x.mul(sin.unsqueeze(1)))
        .div(second);
      const parent = along.mul(along).add(across.mul(across)).argmin(2);
      members = mean;
      return { count, parent, place: mean.select(2, 0).mul(columns).add(mean.select(2, 1)) };
    });
  });
}

/** The control: segments of the same sizes whose patches lie anywhere. */
export function shuffled([first, ...coarser]: readonly Level[], batch: number): Level[] {
  const { parent, ...rest } = first!;
  const patches = parent.size(1);
  const places = noGrad(() => rand([batch, patches]).argsort({ dim: 1 }));
  return [{ ...rest, parent: parent.expand([batch, patches]).gather(1, places) }, ...coarser];
}

/**
 * The place of each patch's segment in the order of prediction, int64 [B, N]: 0 for the first. Segments without patches have none, so ranks
 * have no gaps. With several levels, all segments of a partition come before those of another.
 */
export function segmentRanks(levels: readonly Level[], batch: number, order: "random" | "raster"): Tensor {
  return noGrad(() => {
    const [finest] = levels as [Level, ...Level[]];
    const keyOf = ({ count, place }: Level) => rankOf(order === "random" ? rand([batch, count]) : place.expand([batch, count]));
    /** For each segment, its ancestor at each level: itself, its partition, that one's. */
    const ancestors: Tensor[] = [];
    for (const [i, { parent, count }] of levels.entries()) {
      const own = i === 0 ? arange(0, count).unsqueeze(0) : parent;
      const rows = own.expand([batch, own.size(1)]);
      ancestors.push(i === 0 ? rows : rows.gather(1, ancestors[i - 1]!));
    }
    let score = zeros([batch, finest.count], { dtype: "float64" });
    for (const [i, level] of [...levels.entries()].reverse())
      score = score.mul(level.count).add(keyOf(level).gather(1, ancestors[i]!));
    const segments = finest.parent.expand([batch, finest.parent.size(1)]);
    const sizes = zeros([batch, finest.count]).scatterAdd_(1, segments, zeros(segments.shape).add_(1));
    // Empty segments come last, where no patch has their rank.
    return rankOf(score.maskedFill(sizes.eq(0), Number.POSITIVE_INFINITY)).gather(1, segments);
  });
}

/** For each entry of a row, how many come before it. */
function rankOf(keys: Tensor): Tensor {
  return keys.argsort({ dim: 1 }).argsort({ dim: 1 });
}
