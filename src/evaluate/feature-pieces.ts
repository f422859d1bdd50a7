// Features on the disk while they are taken: a process that is killed goes on after the last piece that was written.
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { removeTemporary } from "../files.js";
import { fromTypedArray, readSafetensors, type Tensor, tidy, writeSafetensors } from "../torch/index.js";
import { KeepClock, type KeepOptions } from "./keep.js";

/** Rows as the loader gave them. */
export interface FeatureRows {
  readonly readouts: Readonly<Record<string, Tensor>>;
  readonly index: Int32Array;
  readonly labels?: Int32Array;
}

const READOUT = "readout.";

export class FeaturePieces {
  readonly #prefix: string;
  readonly #folder: string;
  readonly #clock: KeepClock;

  /** @param name of the features, such as `test-0`; no other pieces of the folder begin with it and a dot */
  constructor(keepIn: KeepOptions, name: string) {
    this.#folder = join(keepIn.folder, "features");
    this.#prefix = `${name}.`;
    this.#clock = new KeepClock(keepIn);
    mkdirSync(this.#folder, { recursive: true });
    removeTemporary(this.#folder);
  }

  /** Hands out the pieces in order, each in a scope of its own. Returns how many batches they hold. */
  restore(take: (rows: FeatureRows) => void): number {
    let batches = 0;
    const names = readdirSync(this.#folder).filter((each) => each.startsWith(this.#prefix) && each.endsWith(".safetensors"));
    for (const name of names.sort()) {
      tidy(() => {
        const { tensors, metadata } = readSafetensors(join(this.#folder, name));
        const numbers = (key: string) => Int32Array.from(tensors.get(key)!.data() as Int32Array);
        const readouts = [...tensors].flatMap(([key, value]) =>
          key.startsWith(READOUT) ? [[key.slice(READOUT.length), value]] : [],
        );
        take({
          readouts: Object.fromEntries(readouts),
          index: numbers("index"),
          ...(tensors.has("labels") && { labels: numbers("labels") }),
        });
        batches = Number(metadata.batches);
      });
    }
    return batches;
  }

  /** Whether it is time for another piece. */
  due(): boolean {
    return this.#clock.due();
  }

  /** @param batches how many there are with these rows, from the first on */
  write({ readouts, index, labels }: FeatureRows, batches: number): void {
    const path = join(this.#folder, `${this.#prefix}${String(batches).padStart(9, "0")}.safetensors`);
    tidy(() => {
      const named = Object.entries(readouts).map(([name, value]) => [`${READOUT}${name}`, value.contiguous()] as const);
      const all = new Map<string, Tensor>([...named, ["index", fromTypedArray(index)]]);
      if (labels) all.set("labels", fromTypedArray(labels));
      writeSafetensors(path, all, { batches: String(batches) });
    });
    this.#clock.written();
  }
}
