// Reads every sample of a dataset and lists those that cannot be used: `tessera data verify SPEC`.
import type { Dataset } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import type { BadSample } from "./reader.js";
import { isBadSample } from "./segmentation/mask-folder.js";

export interface VerifyOptions {
  /** Called now and then with the number of samples read, and once at the end. */
  onProgress?: (done: number, total: number, bad: number) => void;
  /** Called for each bad sample as it is met. */
  onBad?: (bad: BadSample) => void;
  /** Samples in the making at once. Default 4, as many as Node's thread pool decodes. */
  concurrency?: number;
  /** Ends the reading early; what was found so far is returned. */
  signal?: AbortSignal;
}

export interface Verification {
  /** Samples read. */
  readonly total: number;
  /** The bad ones, in the dataset's order. */
  readonly bad: readonly BadSample[];
}

/** Reads all samples, in bounded memory. */
export async function verifyDataset(dataset: Dataset, options: VerifyOptions = {}): Promise<Verification> {
  const { onProgress, onBad, concurrency = 4, signal } = options;
  const bad: BadSample[] = [];
  let next = 0;
  let done = 0;
  const reader = async (): Promise<void> => {
    while (next < dataset.length && !signal?.aborted) {
      const index = next++;
      try {
        const image = dataset.read(index);
        if (image instanceof Promise) await image;
      } catch (error) {
        if (!isBadSample(error)) {
          throw new DataError(`${dataset.name} failed to read sample ${index}: ${messageOf(error)}`, { cause: error });
        }
        const entry = { index, path: dataset.path(index), reason: error.reason };
        bad.push(entry);
        onBad?.(entry);
      }
      done++;
      if (done % 256 === 0) onProgress?.(done, dataset.length, bad.length);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, reader));
  onProgress?.(done, dataset.length, bad.length);
  return { total: done, bad: bad.sort((a, b) => a.index - b.index) };
}
