// Errors of the data side. Two of them matter to callers: a sample that cannot be used (skipped and counted by the loader)
// and everything else (ends the run).
import { TesseraError } from "../errors.js";

/** Something is wrong with a dataset, a spec string, a view plan or the loader. */
export class DataError extends TesseraError {}

/**
 * One sample cannot be used: a truncated file, a text file named .png, an image above the pixel limit.
 * A dataset's `read` throws this to have the sample skipped, counted and replaced; any other error ends the run.
 */
export class BadSampleError extends DataError {
  /** Why, in a few words, without the path. */
  readonly reason: string;

  constructor(reason: string, options?: { cause?: unknown }) {
    super(reason, options);
    this.reason = reason;
  }
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
