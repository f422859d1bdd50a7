// Watching for collapse: a loss that sits at the value it has when all outputs are alike is called what it is.

import type { MetricsLine } from "../fit/index.js";
import type { TrivialLevel } from "../methods/index.js";

export interface CollapseOptions {
  /** Logged steps in a row that must look alike before it is said. Default 20. */
  patience?: number;
  /** How close to a trivial level counts as sitting there, relative to it. Default 0.001. */
  tolerance?: number;
}

/** Looks at the logged values of a run and says, once for each kind, what has collapsed. */
export class CollapseMonitor {
  readonly #counts = new Map<string, number>();
  readonly #said = new Set<string>();
  readonly #patience: number;
  readonly #tolerance: number;

  constructor(
    readonly levels: readonly TrivialLevel[],
    { patience = 20, tolerance = 0.001 }: CollapseOptions = {},
  ) {
    this.#patience = patience;
    this.#tolerance = tolerance;
  }

  /** A monitor that has seen the log of the steps before a resume, and said what it had to say of them. */
  static after(log: readonly MetricsLine[], levels: readonly TrivialLevel[], options?: CollapseOptions): CollapseMonitor {
    const monitor = new CollapseMonitor(levels, options);
    for (const { kind, ...values } of log) if (kind === "step") monitor.look(values as Record<string, number>);
    return monitor;
  }

  /** Warnings for this step; usually none. */
  look(values: Readonly<Record<string, number>>): string[] {
    const signs: [key: string, present: boolean, text: string][] = this.levels.map(({ term, value, below, meaning }) => {
      const seen = values[term] ?? Number.NaN;
      const near = Math.abs(seen - value) <= this.#tolerance * Math.max(1e-6, Math.abs(value));
      return [`${term} ${value}`, near || (below === true && seen < value), `${term} has sat at ${seen.toFixed(4)}: ${meaning}`];
    });
    const { featureStd, teacherEntropy, kl } = values;
    if (featureStd !== undefined) {
      signs.push([
        "featureStd",
        featureStd < 1e-4,
        `all images get the same feature (deviation ${featureStd.toExponential(1)}): collapse to a constant`,
      ]);
    }
    if (teacherEntropy !== undefined) {
      signs.push([
        "teacherEntropy",
        // A teacher may be sure of each image by itself; that nothing is left to learn of it, too, means one answer for all.
        teacherEntropy < 1e-3 && (kl ?? 0) < 1e-2,
        `the teacher puts all mass on one prototype (entropy ${teacherEntropy.toExponential(1)}) and the student agrees: collapse to one prototype`,
      ]);
    }
    return signs.flatMap(([key, present, text]) => {
      const count = present ? (this.#counts.get(key) ?? 0) + 1 : 0;
      this.#counts.set(key, count);
      if (count < this.#patience || this.#said.has(key)) return [];
      this.#said.add(key);
      return [text];
    });
  }
}
