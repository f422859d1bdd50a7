// Reads samples, and others in place of those that are bad.
import type { Dataset } from "./dataset.js";
import { BadSampleError, DataError, messageOf } from "./errors.js";
import { replacementFor } from "./order.js";
import type { Pixels } from "./pixels.js";

/** A sample that could not be used. */
export interface BadSample {
  readonly index: number;
  readonly path: string;
  readonly reason: string;
}

/** How many other samples are tried before giving up on a row. */
const ATTEMPTS = 64;

/** An image, and the sample that it is of. */
export interface Read {
  readonly image: Pixels;
  readonly index: number;
}

export class Reader {
  readonly #dataset: Dataset;
  readonly #seed: number;
  readonly #bad = new Map<number, string>();
  readonly #onBad: (bad: BadSample) => void;

  constructor(dataset: Dataset, seed: number, onBad: (bad: BadSample) => void) {
    this.#dataset = dataset;
    this.#seed = seed;
    this.#onBad = onBad;
  }

  /** Reads a sample or its replacement, at once where the dataset can. */
  read(index: number, epoch: number): Read | Promise<Read> {
    try {
      const image = this.#dataset.read(index);
      if (!(image instanceof Promise)) return { image, index };
      const read = image.then(
        (image) => ({ image, index }),
        (error) => this.#replace(index, epoch, error),
      );
      // Whoever asked may be busy augmenting (or gone) when this fails: it is dealt with when it is awaited.
      read.catch(() => {});
      return read;
    } catch (error) {
      const read = this.#replace(index, epoch, error);
      read.catch(() => {});
      return read;
    }
  }

  /** Reads a sample, or nothing where it is bad. */
  async readOnly(index: number): Promise<Read | undefined> {
    try {
      return { image: await this.#dataset.read(index), index };
    } catch (error) {
      this.#note(index, error);
      return undefined;
    }
  }

  async #replace(index: number, epoch: number, error: unknown): Promise<Read> {
    this.#note(index, error);
    const { length } = this.#dataset;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const other = replacementFor(length, this.#seed, epoch, index, attempt);
      if (this.#bad.has(other)) continue;
      try {
        return { image: await this.#dataset.read(other), index: other };
      } catch (error) {
        this.#note(other, error);
      }
    }
    const path = this.#dataset.path(index);
    throw new DataError(
      `${path} is bad (${this.#bad.get(index)}), and so are ${ATTEMPTS} other samples of ${this.#dataset.name} that were tried ` +
        "in its place. Check the files with `tessera data verify`.",
    );
  }

  /** Remembers and reports a bad sample; anything else that a dataset throws ends the run. */
  #note(index: number, error: unknown): void {
    if (!(error instanceof BadSampleError) && (error as Error)?.name !== "BadSampleError") {
      throw new DataError(`${this.#dataset.name} failed to read sample ${index}: ${messageOf(error)}`, { cause: error });
    }
    const reason = (error as BadSampleError).reason ?? messageOf(error);
    if (this.#bad.has(index)) return;
    this.#bad.set(index, reason);
    this.#onBad({ index, path: this.#dataset.path(index), reason });
  }
}
