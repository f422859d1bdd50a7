// DINO's weighted k-NN (Caron et al. 2021, section 4.2 and the published code): each of the k nearest training features by cosine similarity
// votes for its class with weight exp(similarity / 0.07). Votes are added where they belong; no one-hot tensor, no sort over the classes.
import { fromTypedArray, isTensor, noGrad, type Tensor, tidy, zeros } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { checkFeatures, type NearestOptions, nearestNeighbors } from "./neighbors.js";
import { placesOf } from "./scores.js";

/** The numbers of neighbours that DINO reports. */
export const defaultK: readonly number[] = [10, 20, 100, 200];

/** One class number a feature, from 0. */
export type Labels = Int32Array | readonly number[] | Tensor;

export interface KnnOptions extends Pick<NearestOptions, "bank" | "queries" | "queryChunk" | "bankChunk"> {
  /** Classes of the bank's features. */
  bankLabels: Labels;
  /** Classes of the queries. */
  labels: Labels;
  /** Number of classes. */
  classes: number;
  /** Numbers of neighbours, each at most the bank's size. Default: those of 10, 20, 100, 200 that are (the whole bank if it is smaller still). */
  k?: readonly number[];
  /** Votes weigh exp(similarity / temperature). Default 0.07. */
  temperature?: number;
}

/** Shares of queries, from 0 to 1, by number of neighbours. */
export interface KnnResult {
  /** The class with most votes is the right one. */
  top1: Record<number, number>;
  /**
   * The right class is among the five with most votes (among min(5, k)). Where fewer classes got votes, the lowest of the others take the
   * places that are left, as they do in the published code: with few classes and a small k this flatters.
   */
  top5: Record<number, number>;
}

/** Queries that are searched in one go: bounds the memory for their neighbours. */
const SLAB = 32_768;
/** Votes held at once: 64 MB. */
const VOTES = 2 ** 23;

function labelTensor(name: string, labels: Labels, count: number, classes: number, like: Tensor): Tensor {
  const given = isTensor(labels) ? labels.numel : labels.length;
  if (given !== count || (isTensor(labels) && labels.ndim !== 1)) {
    const shape = isTensor(labels) ? `shape [${labels.shape.join(", ")}]` : `${given} elements`;
    throw new EvaluateError(`${name} has ${shape} for ${count} features; expected one label a feature.`);
  }
  const tensor = isTensor(labels) ? labels.to("int64") : fromTypedArray(Int32Array.from(labels)).to("int64");
  const wrong = tensor.lt(0).add(tensor.ge(classes)).to("uint8");
  if (wrong.amax().item() > 0) {
    const at = wrong.argmax().item();
    throw new EvaluateError(
      `${name}[${at}] is ${tensor.select(0, at).item()}; expected 0 to ${classes - 1} for ${classes} classes. Leave out samples without a label.`,
    );
  }
  return tensor.to(like.device as "cpu");
}

function chooseK(asked: readonly number[] | undefined, rows: number): number[] {
  if (!asked) {
    const fitting = defaultK.filter((k) => k <= rows);
    return fitting.length > 0 ? fitting : [rows];
  }
  if (asked.length === 0) throw new EvaluateError("k is an empty list; expected at least one number of neighbours.");
  for (const k of asked) {
    if (!Number.isInteger(k) || k < 1) throw new EvaluateError(`k is ${k}; expected a whole number, 1 or more.`);
    if (k > rows) {
      throw new EvaluateError(`k is ${k}, but the bank has only ${rows} features; use k of at most ${rows}, or a larger bank.`);
    }
  }
  return [...new Set(asked)].sort((a, b) => a - b);
}

/** Adds the rights and wrongs of some queries to `right`: [ks, 2]. */
function countRight(
  neighbors: { classes: Tensor; weights: Tensor },
  labels: Tensor,
  { ks, classes, right }: { ks: readonly number[]; classes: number; right: number[][] },
): void {
  const votes = zeros([labels.size(0), classes], { dtype: "float64", device: labels.device });
  let from = 0;
  for (const [i, k] of ks.entries()) {
    votes.scatterAdd_(1, neighbors.classes.narrow(1, from, k - from), neighbors.weights.narrow(1, from, k - from));
    from = k;
    tidy(() => {
      const places = placesOf(votes, labels);
      right[i]![0]! += places.lt(1).to("int64").sum().item();
      right[i]![1]! += places.lt(Math.min(5, k)).to("int64").sum().item();
    });
  }
}

/**
 * Classifies each query by its nearest neighbours in the bank. Features are L2-normalised here. Exact, in bounded memory; equal
 * similarities go to the lower row of the bank, equal votes to the lower class.
 *
 * @throws EvaluateError for shapes, labels or a k that do not fit, and for features that are not finite
 */
export function knn(options: KnnOptions): KnnResult {
  const { bank, queries, classes, temperature = 0.07 } = options;
  const size = checkFeatures(bank, queries);
  if (!Number.isInteger(classes) || classes < 1)
    throw new EvaluateError(`classes is ${classes}; expected a whole number, 1 or more.`);
  if (!(temperature > 0)) throw new EvaluateError(`temperature is ${temperature}; expected a number above 0.`);
  const ks = chooseK(options.k, size.rows);
  const right = ks.map(() => [0, 0]);
  noGrad(() =>
    tidy(() => {
      const bankLabels = labelTensor("bankLabels", options.bankLabels, size.rows, classes, queries);
      const labels = labelTensor("labels", options.labels, size.queries, classes, queries);
      for (let from = 0; from < size.queries; from += SLAB) {
        const count = Math.min(SLAB, size.queries - from);
        const slab = { ...options, queries: queries.narrow(0, from, count), k: ks.at(-1)! };
        tidy(() => vote(slab, bankLabels, labels.narrow(0, from, count), { ks, classes, temperature, right }));
      }
    }),
  );
  const shares = (which: number): Record<number, number> =>
    Object.fromEntries(ks.map((k, i) => [k, right[i]![which]! / size.queries]));
  return { top1: shares(0), top5: shares(1) };
}

function vote(
  search: NearestOptions,
  bankLabels: Tensor,
  labels: Tensor,
  how: { ks: readonly number[]; classes: number; temperature: number; right: number[][] },
): void {
  const { indices, similarities } = nearestNeighbors(search);
  const rows = Math.max(1, Math.floor(VOTES / how.classes));
  for (let from = 0; from < labels.size(0); from += rows) {
    const count = Math.min(rows, labels.size(0) - from);
    tidy(() => {
      const near = similarities.narrow(0, from, count).to("float64");
      // Measured from the nearest: the same order of classes, and no overflow at a low temperature.
      const weights = near
        .sub(near.narrow(1, 0, 1))
        .div(how.temperature)
        .exp();
      const classes = bankLabels.indexSelect(0, indices.narrow(0, from, count).reshape([-1])).view([count, search.k]);
      countRight({ classes, weights }, labels.narrow(0, from, count), how);
    });
  }
}
