// Values that follow the run: learning rate, weight decay, momentum of the teacher, temperatures. A schedule is data in a recipe and a pure
// function of the step in the loop, so a resumed run needs no state for it.
import { ScheduleError } from "./errors.js";

/** A linear rise (or fall) to the schedule's first value. Give `steps` or `epochs`. */
export interface Warmup {
  steps?: number;
  epochs?: number;
  /** Value at the first step. Default 0. */
  from?: number;
  /**
   * As numpy's linspace: true when the last step (or epoch) of the warm-up already has the full value (DINO), false when the one after it
   * has (MoCo v3). Default false.
   */
  endpoint?: boolean;
}

interface Common {
  warmup?: Warmup;
  /** Change at every step (default), or only when an epoch begins (DINO's teacher temperature, MoCo v3's linear probe). */
  per?: "step" | "epoch";
}

/** `from` is reached at the end of the warm-up, `to` at the end of the run. A plain number is a constant. */
export type ScheduleSpec =
  | number
  | ({ kind: "constant"; value: number } & Common)
  | ({ kind: "linear" | "cosine"; from: number; to: number } & Common);

/** How long a run is. */
export interface RunLength {
  /** Optimiser steps in the whole run. */
  steps: number;
  stepsPerEpoch: number;
}

/** The value at a step, counted from 0. At `steps` and beyond it is the end value exactly. */
export type Schedule = (step: number) => number;

/** from at 0, to at 1, straight. */
export function linear(from: number, to: number, progress: number): number {
  return between(from, to, progress, 1 - progress);
}

/** from at 0, to at 1, along half a cosine. */
export function cosine(from: number, to: number, progress: number): number {
  return between(from, to, progress, (1 + Math.cos(Math.PI * progress)) / 2);
}

/** to + (from - to) share, exact at the ends and never outside of them. */
function between(from: number, to: number, progress: number, share: number): number {
  if (progress <= 0) return from;
  if (progress >= 1) return to;
  const value = to + (from - to) * share;
  return Math.min(Math.max(value, Math.min(from, to)), Math.max(from, to));
}

/**
 * A schedule as a function of the step.
 *
 * @throws ScheduleError when a value is not finite, or the warm-up does not fit into the run
 */
export function schedule(spec: ScheduleSpec, { steps, stepsPerEpoch }: RunLength): Schedule {
  check({ steps, stepsPerEpoch }, (value) => value > 0, "above 0");
  if (typeof spec === "number") {
    check({ value: spec }, Number.isFinite, "a finite number");
    return () => spec;
  }
  const { warmup, per = "step" } = spec;
  const [from, to] = spec.kind === "constant" ? [spec.value, spec.value] : [spec.from, spec.to];
  check({ from, to }, Number.isFinite, "finite numbers");
  const unit = per === "epoch" ? stepsPerEpoch : 1;
  const total = Math.ceil(steps / unit);
  const rise = warmup ? riseOf(warmup, unit, stepsPerEpoch) : 0;
  if (rise > total) {
    throw new ScheduleError(
      `the warm-up of ${rise} ${per}s is longer than the run of ${total}; shorten the warm-up or train longer`,
    );
  }
  const start = warmup?.from ?? 0;
  check({ "warmup.from": start }, Number.isFinite, "a finite number");
  const climb = warmup?.endpoint ? Math.max(rise - 1, 1) : rise;
  const shape = spec.kind === "cosine" ? cosine : linear;
  return (step) => {
    const at = Math.floor(Math.max(step, 0) / unit);
    if (at < rise) return linear(start, from, at / climb);
    return at >= total ? to : shape(from, to, (at - rise) / (total - rise));
  };
}

/** Length of the warm-up in steps or epochs, whichever the schedule counts in. */
function riseOf(warmup: Warmup, unit: number, stepsPerEpoch: number): number {
  const { steps, epochs } = warmup;
  if ((steps === undefined) === (epochs === undefined)) throw new ScheduleError("a warm-up needs either steps or epochs");
  const long = steps ?? epochs! * stepsPerEpoch;
  check({ warmup: long }, (value) => value >= 0 && Number.isFinite(value), "at least 0");
  return Math.round(long / unit);
}

function check(values: Record<string, number>, holds: (value: number) => boolean, expected: string): void {
  for (const [name, value] of Object.entries(values)) {
    if (!holds(value)) throw new ScheduleError(`${name} of a schedule must be ${expected}, but is ${value}`);
  }
}
