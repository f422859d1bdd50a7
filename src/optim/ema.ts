// The momentum teacher: an exponential moving average of the student's parameters, over all of them in one call.
import type { Module } from "../nn/index.js";
import { foreach, isFloatingPoint, noGrad, type Tensor, tidy } from "../torch/index.js";
import { OptimizerError, PairingError } from "./errors.js";

export interface EmaOptions {
  /** What happens to buffers such as running statistics: nothing (DINO, MoCo v3; default), a copy, or the same average. */
  buffers?: "none" | "copy" | "ema";
  /** The student may have parameters and buffers that the teacher lacks, such as a predictor or a decoder. Default false. */
  allowExtra?: boolean;
}

interface Pairs {
  teacher: Tensor[];
  student: Tensor[];
}

/** Pairs teacher and student by name, once; `update` then costs one operator. */
export class Ema {
  readonly #parameters: Pairs;
  readonly #buffers: Pairs;
  readonly #rule: "none" | "copy" | "ema";

  /** @throws PairingError that names what the two do not share or have in different shapes */
  constructor(
    readonly teacher: Module,
    student: Module,
    { buffers = "none", allowExtra = false }: EmaOptions = {},
  ) {
    this.#rule = buffers;
    this.#parameters = pair("parameters", teacher.namedParameters(), student.namedParameters(), allowExtra);
    this.#buffers = pair("buffers", teacher.namedBuffers(), student.namedBuffers(), allowExtra);
  }

  /** Makes the teacher an exact copy of the student, buffers included, and freezes it. Returns this. */
  start(): this {
    noGrad(() => {
      for (const { teacher, student } of [this.#parameters, this.#buffers])
        if (teacher.length > 0) foreach.copy_(teacher, student);
    });
    this.teacher.requiresGrad_(false);
    return this;
  }

  /**
   * teacher <- momentum teacher + (1 - momentum) student
   *
   * @throws OptimizerError when the momentum is not between 0 and 1
   */
  update(momentum: number): void {
    if (!(momentum >= 0 && momentum <= 1)) {
      throw new OptimizerError(`the momentum of a teacher lies between 0 and 1, but is ${momentum}`);
    }
    tidy(() =>
      noGrad(() => {
        const { teacher, student } = this.#parameters;
        foreach.lerp_(teacher, student, 1 - momentum);
        if (this.#rule !== "none") this.#updateBuffers(momentum);
      }),
    );
  }

  #updateBuffers(momentum: number): void {
    const { teacher, student } = this.#buffers;
    // Counters have no average.
    const averaged = (each: Tensor) => this.#rule === "ema" && isFloatingPoint(each.dtype);
    for (const [i, each] of teacher.entries()) {
      if (averaged(each)) each.lerp_(student[i]!, 1 - momentum);
      else each.copy_(student[i]!);
    }
  }
}

function pair(
  what: string,
  teacher: Iterable<[string, Tensor]>,
  student: Iterable<[string, Tensor]>,
  allowExtra: boolean,
): Pairs {
  const given = new Map(student);
  const pairs: Pairs = { teacher: [], student: [] };
  const wrong: string[] = [];
  for (const [name, own] of teacher) {
    const other = given.get(name);
    given.delete(name);
    if (!other) wrong.push(`${name} (only in the teacher)`);
    else if (own === other) wrong.push(`${name} (the same tensor in both)`);
    else if (own.shape.join() !== other.shape.join()) {
      wrong.push(`${name} (teacher [${own.shape.join(", ")}], student [${other.shape.join(", ")}])`);
    }
    if (other) {
      pairs.teacher.push(own);
      pairs.student.push(other);
    }
  }
  if (!allowExtra) wrong.push(...[...given.keys()].map((name) => `${name} (only in the student)`));
  if (wrong.length > 0) {
    const shown = wrong.slice(0, 20).join(", ");
    throw new PairingError(
      `teacher and student differ in their ${what}: ${shown}${wrong.length > 20 ? `, and ${wrong.length - 20} more` : ""}`,
    );
  }
  return pairs;
}
