// Errors of drawing.
import { TesseraError } from "../errors.js";

/** A picture was asked for from tensors or numbers that do not fit together. */
export class DrawError extends TesseraError {}
