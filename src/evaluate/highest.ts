// The k highest similarities of each query so far, as one int64 key each: the similarity above, the bank's row below, so that no two are equal and
// what is kept does not depend on the chunks in which rows come. Higher similarities have higher keys, and of equal ones the lower row.
import { arange, cat, full, fusesHighest, keepHighest, op, type Tensor, tidy } from "../torch/index.js";

const viewDtype = op("view.dtype");
const shiftRight = op("bitwise_right_shift.Tensor_Scalar");
const bitwiseAnd = op("bitwise_and.Scalar");
const bitwiseXor = op("bitwise_xor.Tensor");

/** What the upper half of a key counts; rows are below it. */
const LOW = 2 ** 32;

/** How the highest are found among the similarities of queries to a chunk of the bank's rows. */
export interface Selection {
  /** Queries and rows of the bank at a time that suit it. */
  readonly chunk: { readonly queries: number; readonly bank: number };
  /** The rows of a chunk [c, D] in the order that `keep` wants their similarities in. */
  arrange(rows: Tensor, k: number): Tensor;
  /** Takes similarities [q, c] to the arranged rows, the first of which is number `start`, into `best` [q, k], which is in no order. */
  keep(best: Tensor, similarities: Tensor, start: number): void;
}

/** The selection that suits a device. */
export function selectionOn(device: string): Selection {
  return fusesHighest(device) ? onePass : byGroups;
}

/** Keys [queries, k] below every other. */
export function lowestKeys(queries: number, k: number, device: string): Tensor {
  return full([queries, k], -(2 ** 63), { dtype: "int64", device: device as "cpu" });
}

/** Keys [q, k] -> similarities and rows, the highest first. */
export function unpacked(best: Tensor): { similarities: Tensor; indices: Tensor } {
  return tidy(() => {
    const keys = best.sort({ descending: true }).values;
    const high = shiftRight(keys, 32);
    const bits = high.to("int32");
    const flip = bitwiseAnd(shiftRight(bits, 31), 0x7fffffff);
    return {
      similarities: viewDtype(bitwiseXor(bits, flip), "float32"),
      indices: high
        .mul_(LOW)
        .add_(LOW - 1)
        .sub(keys),
    };
  });
}

/** A pass by comparisons alone over what is below the lowest kept: nearly all. */
const onePass: Selection = {
  // Similarities that are still in the last cache when they are looked at, of products large enough that packing them is little of the work.
  chunk: { queries: 1024, bank: 8192 },
  arrange: (rows) => rows,
  keep: keepHighest,
};

/**
 * By libtorch's operators, whose selection over 60,000 columns costs more than the product that makes them. So each chunk is cut in groups of g
 * neighbours; only the k groups with the highest maxima can hold any of the k highest (each of them holds one at least as high), and the selection
 * runs over n/g maxima and then k*g candidates.
 */
const byGroups: Selection = {
  chunk: { queries: 256, bank: 65_536 },

  // Rows [j * size + m] to [m * groups + j], so that maxima over m read whole cache lines; what is left over stays at the end.
  arrange(rows, k) {
    const { groups, size } = grouping(rows.size(0), k);
    if (groups === 0) return rows;
    const dim = rows.size(1);
    const cut = groups * size;
    const head = rows.narrow(0, 0, cut).view([groups, size, dim]).transpose(0, 1).reshape([cut, dim]);
    return cut === rows.size(0) ? head : cat([head, rows.narrow(0, cut, rows.size(0) - cut)]);
  },

  keep(best, similarities, start) {
    const k = best.size(1);
    const keys = cat([best, ...candidateKeys(similarities, start, k)], 1);
    best.copy_(keys.topk(k, { sorted: false }).values);
  },
};

/** Groups and their size for `columns` columns, by measurement: gathering candidates costs more than maxima. None where they would not pay. */
function grouping(columns: number, k: number): { groups: number; size: number } {
  const size = Math.min(16, Math.round(0.7 * Math.sqrt(columns / k)));
  const groups = size < 2 ? 0 : Math.floor(columns / size);
  return groups > k ? { groups, size } : { groups: 0, size: 1 };
}

/** Keys of the candidates among the similarities [q, c] to arranged rows. */
function candidateKeys(similarities: Tensor, start: number, k: number): Tensor[] {
  const { device } = similarities;
  const [rows, columns] = similarities.shape as [number, number];
  const { groups, size } = grouping(columns, k);
  const numbers = (from: number, to: number): Tensor => arange(from, to, 1, { device });
  const grouped = groups * size;
  const parts: Tensor[] = [];
  if (grouped > 0) {
    const cube = similarities.narrow(1, 0, grouped).view([rows, size, groups]);
    const groupKeys = orderedBits(cube.amax(1)).sub_(numbers(0, groups));
    const chosen = groupKeys.topk(k, { sorted: false }).indices.unsqueeze(1);
    const candidates = cube.gather(2, chosen.expand([rows, size, k]));
    const low = chosen
      .mul(-size)
      .sub(numbers(0, size).view([1, size, 1]))
      .add_(LOW - 1 - start);
    parts.push(
      orderedBits(candidates)
        .add_(low)
        .view([rows, size * k]),
    );
  }
  if (grouped < columns) {
    const rest = similarities.narrow(1, grouped, columns - grouped);
    parts.push(orderedBits(rest).sub_(numbers(start + grouped - (LOW - 1), start + columns - (LOW - 1))));
  }
  return parts;
}

/** float32 -> int64 in the same order, in the upper 32 bits. */
function orderedBits(x: Tensor): Tensor {
  return tidy(() => {
    const bits = viewDtype(x.add(0).contiguous(), "int32"); // + 0 makes -0 equal to 0
    const flip = bitwiseAnd(shiftRight(bits, 31), 0x7fffffff);
    return bitwiseXor(bits, flip).to("int64").mul_(LOW);
  });
}
