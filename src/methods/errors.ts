// Errors of the methods' registry.
import { TesseraError } from "../errors.js";

/** A method was asked for by a name that does not exist, or given a name it cannot have. */
export class UnknownMethodError extends TesseraError {}

/** An option of a method that does not fit what it names: a file of another kind, weights for other images. */
export class MethodOptionError extends TesseraError {}
