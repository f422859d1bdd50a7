// The errors of the engine. The native bridge throws instances of these, so `instanceof` tells what went wrong.
import { TesseraError } from "../errors.js";

/** libtorch refused or failed an operator. The message names the operator, its arguments' shapes and dtypes; `cause` has torch's text. */
export class OperatorError extends TesseraError {}

/** An argument of the wrong kind, found before libtorch was asked. */
export class ArgumentError extends TesseraError {}

/** A Tensor was used after dispose(), or after the end of the scope that owned it. */
export class UseAfterDisposeError extends TesseraError {}

/** There was not enough memory for a tensor. Nothing was changed. */
export class OutOfMemoryError extends TesseraError {}

/** A scope was used wrongly: awaited inside, or ended out of order. */
export class ScopeError extends TesseraError {}

/** The engine could not be loaded at all. */
export class EngineError extends TesseraError {}

/** A safetensors file could not be read or written; the message names the file and what is wrong with it. */
export class SafetensorsError extends TesseraError {}
