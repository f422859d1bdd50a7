// Exact nearest neighbours by cosine similarity, in bounded memory: queries and bank are taken in chunks, and the best k of each chunk are merged
// with those before (highest.ts).
import { noGrad, normalize, type Tensor, tidy } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { lowestKeys, type Selection, selectionOn, unpacked } from "./highest.js";

export interface NearestOptions {
  /** Features that are searched: [N, D], any floating-point dtype. They need not be normalised. */
  bank: Tensor;
  /** Features whose neighbours are wanted: [Q, D]. */
  queries: Tensor;
  /** How many neighbours, 1 to N. */
  k: number;
  /** Queries at a time. Default 1,024, or 256 without fused operators. */
  queryChunk?: number;
  /** Bank features at a time. Default 8,192, or 65,536 without fused operators. */
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
export function nearestNeighbors({ bank, queries, k, ...wanted }: NearestOptions): Neighbors {
  const size = checkFeatures(bank, queries);
  const selection = selectionOn(queries.device);
  const { queryChunk = selection.chunk.queries, bankChunk = selection.chunk.bank } = wanted;
  checkChunk("k", k);
  checkChunk("queryChunk", queryChunk);
  checkChunk("bankChunk", bankChunk);
  if (k > size.rows)
    throw new EvaluateError(`k is ${k}, but the bank has ${size.rows} features; use a smaller k or a larger bank.`);
  return noGrad(() =>
    tidy(() => {
      const best = lowestKeys(size.queries, k, queries.device);
      for (let start = 0; start < size.rows; start += bankChunk) {
        const count = Math.min(bankChunk, size.rows - start);
        tidy(() => {
          const columns = selection.arrange(normalisedRows(bank, start, count, "bank"), k).t();
          mergeChunk(best, queries, { start, columns, selection, queryChunk });
        });
      }
      return unpacked(best);
    }),
  );
}

function mergeChunk(
  best: Tensor,
  queries: Tensor,
  { start, columns, selection, queryChunk }: { start: number; columns: Tensor; selection: Selection; queryChunk: number },
): void {
  const count = queries.size(0);
  for (let from = 0; from < count; from += queryChunk) {
    tidy(() => {
      const chunk = normalisedRows(queries, from, Math.min(queryChunk, count - from), "query");
      selection.keep(best.narrow(0, from, chunk.size(0)), chunk.mm(columns), start);
    });
  }
}
