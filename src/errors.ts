// The root of every error this library throws on purpose, so that callers can tell ours from anything else.
// Each folder derives its own named classes from it; a message says what was given, what was expected and what to do.

/** Base class of all deliberate errors. `cause` keeps the original error where there is one. */
export class TesseraError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}
