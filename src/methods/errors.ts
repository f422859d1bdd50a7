// Errors of the methods' registry.
import { TesseraError } from "../errors.js";

/** A method was asked for by a name that does not exist, or given a name it cannot have. */
export class UnknownMethodError extends TesseraError {}
