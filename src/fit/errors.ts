// Errors of a training run.
import { TesseraError } from "../errors.js";

/** A loss term or a gradient stopped being a finite number. The run folder has what is needed to replay the step. */
export class NonFiniteError extends TesseraError {}

/** A run folder or a checkpoint that cannot be used as asked. */
export class RunError extends TesseraError {}
