// Exact nearest neighbours by cosine similarity, in bounded memory: queries and bank are taken in chunks and the best k of each chunk merged.
//
// A selection over 60,000 columns costs more than the matrix product that makes them. So each chunk of columns is cut in groups of g
// neighbours; only the k groups with the largest maxima can hold any of the k nearest (each of them holds one at least as near), and the
// selection runs over n/g maxima and then k*g candidates. Neighbours are ordered by similarity and, where that ties, by index: both are
// packed in one int64 key, so that no two are equal and the result does not depend on the size of the chunks.
import { arange, cat, full, noGrad, normalize, op, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError } from "./errors.js";

const viewDtype = op("view.dtype");
const shiftRight = op("bitwise_right_shift.Tensor_Scalar");
const bitwiseAnd = op("bitwise_and.Scalar");
const bitwiseXor = op("bitwise_xor.Tensor");

/** What the upper half of a key counts; indices are below it. */
const LOW = 2 ** 32;

export interface NearestOptions {
  /** Features that are searched: [N, D], any floating-point dtype. They need not be normalised. */
  bank: Tensor;
  /** Features whose neighbours are wanted: [Q, D]. */
  queries: Tensor;
  /** How many neighbours, 1 to N. */
  k: number;
  /** Queries at a time. Default 256. */
  queryChunk?: number;
  /** Bank features at a time. Default 65,536. */
  bankChunk?: number;
}

export interface Neighbors {
  /** Rows of the bank, nearest first, the lower index first where two are equally near: int64 [Q, k]. */
  indices: Tensor;
  /** Their cosine similarities: float32 [Q, k]. */
  similarities: Tensor;
}

/** Whole rows [start, start + count) normalised in float32; a row that is all zeros stays so. */
function normalisedRows(features: Tensor, start: number, count: number, name: string): Tensor {
  return tidy(() => {
    const rows = normalize(features.narrow(0, start, count).float());
    if (!Number.isFinite(rows.sum().item())) {
      const bad = rows.sum(1).isFinite().logicalNot().to("uint8").argmax().item();
      throw new EvaluateError(
        `Row ${start + bad} of the ${name} features is not finite; features with NaN or infinity cannot be compared. Look at the encoder's weights.`,
      );
    }
    return rows;
  });
}

/** float32 -> int64 in the same order, in the upper 32 bits. */
function orderedBits(x: Tensor): Tensor {
  return tidy(() => {
    const bits = viewDtype(x.add(0).contiguous(), "int32"); // + 0 makes -0 equal to 0
    const flip = bitwiseAnd(shiftRight(bits, 31), 0x7fffffff);
    return bitwiseXor(bits, flip).to("int64").mul_(LOW);
  });
}

/** Keys of the candidates among similarities [q, c] whose columns stand for the bank rows start + order(column). */
function candidateKeys(similarities: Tensor, start: number, groups: number, size: number, k: number): Tensor {
  const columns = similarities.size(1);
  const rows = similarities.size(0);
  const { device } = similarities;
  const numbers = (from: number, to: number): Tensor => arange(from, to, 1, { device });
  const grouped = groups * size;
  const parts: Tensor[] = [];
  if (grouped > 0) {
    // Column m * groups + j stands for row start + j * size + m (see permuted): maxima over m read whole cache lines.
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
  return parts.length === 1 ? parts[0]! : cat(parts, 1);
}

/** Rows [j * size + m] to [m * groups + j]; what is left over stays at the end. */
function permuted(rows: Tensor, groups: number, size: number): Tensor {
  if (groups === 0 || size === 1) return rows;
  const dim = rows.size(1);
  const cut = groups * size;
  const head = rows.narrow(0, 0, cut).view([groups, size, dim]).transpose(0, 1).reshape([cut, dim]);
  return cut === rows.size(0) ? head : cat([head, rows.narrow(0, cut, rows.size(0) - cut)]);
}

/** Groups and their size for `columns` columns, by measurement: gathering candidates costs more than maxima. None where they would not pay. */
function grouping(columns: number, k: number): { groups: number; size: number } {
  const size = Math.min(16, Math.round(0.7 * Math.sqrt(columns / k)));
  const groups = size < 2 ? 0 : Math.floor(columns / size);
  return groups > k ? { groups, size } : { groups: 0, size: 1 };
}

function checkChunk(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new EvaluateError(`${name} is ${value}; expected a whole number, 1 or more.`);
}

/** Checks that two feature matrices can be compared; returns their sizes. */
export function checkFeatures(bank: Tensor, queries: Tensor): { rows: number; queries: number; dim: number } {
  for (const [name, each] of [["bank", bank] as const, ["queries", queries] as const]) {
    const { shape } = each;
    if (shape.length !== 2 || shape[0] === 0 || shape[1] === 0) {
      throw new EvaluateError(`${name} has shape [${shape.join(", ")}]; expected [features, dimensions], both at least 1.`);
    }
  }
  const [rows, dim] = bank.shape as [number, number];
  const [count, other] = queries.shape as [number, number];
  if (dim !== other)
    throw new EvaluateError(`The bank's features have ${dim} dimensions, the queries' ${other}; they must be the same.`);
  return { rows, queries: count, dim };
}

/**
 * The k nearest bank features of each query by cosine similarity, exactly.
 *
 * @throws EvaluateError for wrong shapes, a k that is not in 1 ... N, features that are not finite
 */
export function nearestNeighbors({ bank, queries, k, queryChunk = 256, bankChunk = 65_536 }: NearestOptions): Neighbors {
  const size = checkFeatures(bank, queries);
  checkChunk("k", k);
  checkChunk("queryChunk", queryChunk);
  checkChunk("bankChunk", bankChunk);
  if (k > size.rows)
    throw new EvaluateError(`k is ${k}, but the bank has ${size.rows} features; use a smaller k or a larger bank.`);
  return noGrad(() =>
    tidy(() => {
      // Every key is above this one: its index is beyond any bank's.
      const best = full([size.queries, k], -(2 ** 63), { dtype: "int64", device: queries.device });
      for (let start = 0; start < size.rows; start += bankChunk) {
        const columns = Math.min(bankChunk, size.rows - start);
        tidy(() => mergeChunk(best, bank, queries, { start, columns, k, queryChunk }));
      }
      return unpacked(best);
    }),
  );
}

function mergeChunk(
  best: Tensor,
  bank: Tensor,
  queries: Tensor,
  at: { start: number; columns: number; k: number; queryChunk: number },
): void {
  const { start, columns, k, queryChunk } = at;
  const { groups, size } = grouping(columns, k);
  const rows = permuted(normalisedRows(bank, start, columns, "bank"), groups, size).t();
  const count = queries.size(0);
  for (let from = 0; from < count; from += queryChunk) {
    tidy(() => {
      const chunk = normalisedRows(queries, from, Math.min(queryChunk, count - from), "query");
      const keys = candidateKeys(chunk.mm(rows), start, groups, size, k);
      const running = best.narrow(0, from, chunk.size(0));
      const all = start === 0 && keys.size(1) >= k ? keys : cat([running, keys], 1);
      running.copy_(all.topk(k).values);
    });
  }
}

/** Keys [Q, k] -> similarities and indices. */
function unpacked(keys: Tensor): Neighbors {
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
}
