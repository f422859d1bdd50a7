// Errors of optimisers, schedules, clipping and averaging.
import { TesseraError } from "../errors.js";

/** An optimiser, its groups or its saved state cannot be used as given. */
export class OptimizerError extends TesseraError {}

/** A schedule that no run could follow. */
export class ScheduleError extends TesseraError {}

/** Two modules that should be averaged differ in their parameters. */
export class PairingError extends TesseraError {}

/** The gradient of some parameter is infinite or not a number. `names` says of which. */
export class NonFiniteGradientError extends TesseraError {
  constructor(readonly names: readonly string[]) {
    const shown = names.slice(0, 10).join(", ");
    super(
      `the gradient is not finite in ${names.length} parameters (${shown}${names.length > 10 ? ", ..." : ""}): ` +
        "the loss was not finite, or overflowed on the way back; lower the learning rate or look at the batch",
    );
  }
}
