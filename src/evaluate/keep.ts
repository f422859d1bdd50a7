// Where an evaluation of a frozen encoder keeps what is done, and how often.
import { rmSync } from "node:fs";

export interface KeepOptions {
  /** A folder of its own; whoever gives it removes it when the result is there. */
  folder: string;
  /** Seconds between writes. Default 60: what a killed process loses at most. */
  everySeconds?: number;
}

/** Removes what is kept. */
export const removeKept = ({ folder }: KeepOptions): void => rmSync(folder, { recursive: true, force: true });

/** Says when it is time to write again. */
export class KeepClock {
  readonly #every: number;
  #written = performance.now();

  constructor({ everySeconds = 60 }: Pick<KeepOptions, "everySeconds">) {
    this.#every = everySeconds * 1000;
  }

  due(): boolean {
    return performance.now() - this.#written >= this.#every;
  }

  written(): void {
    this.#written = performance.now();
  }
}
