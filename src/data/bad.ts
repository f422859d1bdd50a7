// The account of bad samples, and when there are too many of them.
import { DataError } from "./errors.js";
import type { BadSample } from "./reader.js";

/** What has been found so far. */
export interface BadReport {
  /** Different samples that could not be used. */
  readonly count: number;
  /** Different samples that were asked for. */
  readonly seen: number;
  /** count / seen. */
  readonly share: number;
  /** The first thousand, in the order they were met. */
  readonly files: readonly BadSample[];
}

const KEPT = 1000;

export class BadLedger {
  readonly #name: string;
  readonly #maxShare: number;
  readonly #minCount: number;
  readonly #seenMarks: Uint8Array;
  /** Reported by workers, perhaps for batches that nobody has got yet. */
  readonly #reported = new Map<number, BadSample>();
  readonly #counted = new Set<number>();
  readonly #files: BadSample[] = [];
  #seen = 0;

  constructor(name: string, length: number, maxShare: number, minCount: number) {
    this.#name = name;
    this.#maxShare = maxShare;
    this.#minCount = minCount;
    this.#seenMarks = new Uint8Array(length);
  }

  /** A worker met a bad sample. */
  report(bad: BadSample): void {
    this.#reported.set(bad.index, bad);
  }

  #see(index: number): void {
    if (this.#seenMarks[index]) return;
    this.#seenMarks[index] = 1;
    this.#seen++;
    const bad = this.#reported.get(index);
    if (!bad || this.#counted.has(index)) return;
    this.#counted.add(index);
    if (this.#files.length < KEPT) this.#files.push(bad);
  }

  /** Counts a batch that is being handed out: the samples that were asked for, and those that came. Throws above the set share. */
  deliver(asked: Uint32Array, came: Int32Array): void {
    for (let row = 0; row < asked.length; row++) {
      this.#see(asked[row]!);
      this.#see(came[row]!);
    }
    const { count, seen, share, files } = this.state;
    if (count < this.#minCount || share <= this.#maxShare) return;
    const first = files.slice(0, 3).map(({ path, reason }) => `${path} (${reason})`);
    throw new DataError(
      `${count} of the first ${seen} samples of ${this.#name} cannot be used, ${(100 * share).toFixed(1)} %, and at most ` +
        `${100 * this.#maxShare} % may be bad: ${first.join("; ")}${count > first.length ? "; ..." : "."} ` +
        "`tessera data verify` lists all of them; raise maxBadShare to train all the same.",
    );
  }

  get state(): BadReport {
    const count = this.#counted.size;
    return { count, seen: this.#seen, share: this.#seen === 0 ? 0 : count / this.#seen, files: this.#files };
  }
}
