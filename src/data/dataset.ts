// What a dataset is to the rest of the library, and how worker threads come by one.
import type { Pixels } from "./pixels.js";
import type { Normalization } from "./views.js";

/** Which part of a dataset that has several. */
export type Split = "train" | "test";

/** Samples by number. A sample's image is read (and decoded) only when it is asked for. */
export interface Dataset {
  /** For people: what was opened, e.g. "fashion-mnist (train)". */
  readonly name: string;
  readonly length: number;
  /** Class names by label; absent where there are no labels. */
  readonly classes?: readonly string[];
  /** Names of the classes of pixels; where there are any, every image that is read has `labels`. */
  readonly pixelClasses?: readonly string[];
  /** Mean and standard deviation of the training images, where they are known. */
  readonly normalization?: Normalization;
  /** The channels every image has, where all have the same number. */
  readonly channels?: 1 | 3;
  /** What was noticed when it was opened, for people: a sentence each. */
  readonly notes?: readonly string[];
  /** Enough for a worker thread to open the same dataset by itself. */
  readonly spec: DatasetSpec;
  /** The class of a sample, or undefined. */
  label(index: number): number | undefined;
  /** Where a sample comes from: a file's path, or its place in an archive such as "train#17". */
  path(index: number): string;
  /**
   * The image. Throws (or rejects with) `BadSampleError` for a sample that cannot be used: it is skipped, counted and replaced.
   * Any other error ends the run. Must not depend on anything but the index.
   */
  read(index: number): Pixels | Promise<Pixels>;
  /**
   * What the pixels depend on besides the content of the files: equal for the same samples in the same order, decoded alike. Absent where
   * there are no image files; with it comes `stamp`.
   */
  readonly fingerprint?: string;
  /** An int32 that changes when a sample's file does. */
  stamp?(index: number): number;
  /** Called between epochs: makes what was gathered outlast the process. */
  flush?(): void;
  /** A dataset of only these samples, in this order, for kinds that have more than images and labels; others are wrapped. */
  pick?(indices: ArrayLike<number>): Dataset;
}

/** A dataset as plain data that can be posted to a thread; SharedArrayBuffers in `payload` are shared, not copied. */
export interface DatasetSpec {
  readonly kind: string;
  /** For kinds outside of this library: the module (file URL) that exports `restoreDataset(payload)`. */
  readonly module?: string;
  readonly payload: unknown;
}

/** A Uint8Array on memory that threads share. */
export function sharedBytes(length: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(length));
}

/** An Int32Array on memory that threads share, filled from `values`. */
export function sharedInts(values: ArrayLike<number>): Int32Array<SharedArrayBuffer> {
  const ints = new Int32Array(new SharedArrayBuffer(values.length * 4));
  ints.set(values);
  return ints;
}
