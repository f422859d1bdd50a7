// Errors of modules.
import { TesseraError } from "../errors.js";

function list(title: string, names: readonly string[]): string {
  if (names.length === 0) return "";
  const shown = names.slice(0, 20).join(", ");
  return `; ${title}: ${shown}${names.length > 20 ? `, and ${names.length - 20} more` : ""}`;
}

/** A state dict does not fit a module: says which names are missing, unexpected, or of another shape. */
export class StateDictError extends TesseraError {
  constructor(
    readonly missing: readonly string[],
    readonly unexpected: readonly string[],
    readonly shapes: readonly string[],
  ) {
    super(
      `the state dict does not fit the module${list("missing", missing)}${list("unexpected", unexpected)}${list("of another shape", shapes)}`,
    );
  }
}

/** An input whose shape a layer cannot take. */
export class ShapeError extends TesseraError {}
