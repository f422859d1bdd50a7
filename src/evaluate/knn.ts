// DINO's weighted k-NN (Caron et al. 2021, section 4.2 and the published code): each of the k nearest training features by cosine similarity
// votes for its class with weight exp(similarity / 0.07). Votes are added where they belong; no one-hot tensor, no sort over the classes.
import { fromTypedArray, isTensor, noGrad, type Tensor, tidy, zeros } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { checkFeatures, type NearestOptions, nearestNeighbors } from "./neighbors.js";
import { type Confusion, confusionOf, placesOf } from "./scores.js";

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
  /** Count which classes were taken for which. Default false. */
  confusion?: boolean;
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
  /** Where it was asked for: how many queries of each class (row) were taken for each (column). */
  confusion?: Record<number, Confusion>;
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

/** What was said of the queries for each number of neighbours. */
interface Tally {
  readonly ks: readonly number[];
  readonly classes: number;
  /** Rights among the first and the first five: [ks, 2]. */
  readonly right: number[][];
  /** The class that each query was taken for, [ks, queries]; null where nobody asks. */
  readonly predicted: readonly Int32Array[] | null;
}

/** Counts what is said of some queries, the first of which is number `at`. */
function count(neighbors: { classes: Tensor; weights: Tensor }, labels: Tensor, at: number, tally: Tally): void {
  const { ks, classes, right, predicted } = tally;
  const votes = zeros([labels.size(0), classes], { dtype: "float64", device: labels.device });
  let from = 0;
  for (const [i, k] of ks.entries()) {
    votes.scatterAdd_(1, neighbors.classes.narrow(1, from, k - from), neighbors.weights.narrow(1, from, k - from));
    from = k;
    tidy(() => {
      const places = placesOf(votes, labels);
      right[i]![0]! += places.lt(1).to("int64").sum().item();
      right[i]![1]! += places.lt(Math.min(5, k)).to("int64").sum().item();
      if (predicted) predicted[i]!.set(votes.argmax(-1).to("int32").to("cpu").contiguous().data() as Int32Array, at);
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
  const tally: Tally = {
    ks,
    classes,
    right: ks.map(() => [0, 0]),
    predicted: options.confusion ? ks.map(() => new Int32Array(size.queries)) : null,
  };
  const confusions = noGrad(() =>
    tidy(() => {
      const bankLabels = labelTensor("bankLabels", options.bankLabels, size.rows, classes, queries);
      const labels = labelTensor("labels", options.labels, size.queries, classes, queries);
      for (let from = 0; from < size.queries; from += SLAB) {
        const count = Math.min(SLAB, size.queries - from);
        const slab = { ...options, queries: queries.narrow(0, from, count), k: ks.at(-1)! };
        tidy(() => vote(slab, bankLabels, labels.narrow(0, from, count), { at: from, temperature, tally }));
      }
      const asked = labels.to("int32").to("cpu").contiguous().data() as Int32Array;
      return tally.predicted?.map((said) => confusionOf(asked, said, classes));
    }),
  );
  const shares = (which: number): Record<number, number> =>
    Object.fromEntries(ks.map((k, i) => [k, tally.right[i]![which]! / size.queries]));
  return {
    top1: shares(0),
    top5: shares(1),
    ...(confusions && { confusion: Object.fromEntries(ks.map((k, i) => [k, confusions[i]!])) }),
  };
}

function vote(
  search: NearestOptions,
  bankLabels: Tensor,
  labels: Tensor,
  { at, temperature, tally }: { at: number; temperature: number; tally: Tally },
): void {
  const { indices, similarities } = nearestNeighbors(search);
  const most = Math.max(1, Math.floor(VOTES / tally.classes));
  for (let from = 0; from < labels.size(0); from += most) {
    const rows = Math.min(most, labels.size(0) - from);
    tidy(() => {
      const near = similarities.narrow(0, from, rows).to("float64");
      // Measured from the nearest: the same order of classes, and no overflow at a low temperature.
      const weights = near
        .sub(near.narrow(1, 0, 1))
        .div(temperature)
        .exp();
      const classes = bankLabels.indexSelect(0, indices.narrow(0, from, rows).reshape([-1])).view([rows, search.k]);
      count({ classes, weights }, labels.narrow(0, from, rows), at + from, tally);
    });
  }
}
