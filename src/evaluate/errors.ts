// Errors of the evaluators.
import { TesseraError } from "../errors.js";

/** An evaluation was asked for with wrong features, labels or options. */
export class EvaluateError extends TesseraError {}
