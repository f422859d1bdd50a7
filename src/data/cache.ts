// Decoded images kept in shared memory, for folders of small files that are read again every epoch. The memory is filled once, by
// whichever thread decodes an image first, and nothing is ever thrown out: with an order that is shuffled every epoch, each image is
// as likely to be wanted as any other, so eviction would only cost.
import type { Dataset, DatasetSpec } from "./dataset.js";
import type { Pixels } from "./pixels.js";
import type { Normalization } from "./views.js";

/** The shared memory of a cache. */
export interface CacheMemory {
  readonly pixels: SharedArrayBuffer;
  /** Int32, two a sample: where its entry starts in units of 16 bytes, plus one (0: not cached); and size, width | height << 16. */
  readonly entries: SharedArrayBuffer;
  /** Int32: how many units are taken. */
  readonly taken: SharedArrayBuffer;
}

const UNIT = 16;

/** A dataset whose decoded images are kept, as long as there is room. */
export class CachedDataset implements Dataset {
  static readonly kind = "cached";
  readonly name: string;
  readonly length: number;
  readonly classes?: readonly string[];
  readonly normalization?: Normalization;
  readonly channels?: 1 | 3;
  readonly #whole: Dataset;
  readonly #memory: CacheMemory;
  readonly #entries: Int32Array;
  readonly #taken: Int32Array;

  constructor(whole: Dataset, memory: CacheMemory) {
    this.#whole = whole;
    this.#memory = memory;
    this.#entries = new Int32Array(memory.entries);
    this.#taken = new Int32Array(memory.taken);
    this.name = whole.name;
    this.length = whole.length;
    if (whole.classes) this.classes = whole.classes;
    if (whole.normalization) this.normalization = whole.normalization;
    if (whole.channels) this.channels = whole.channels;
  }

  get spec(): DatasetSpec {
    return { kind: CachedDataset.kind, payload: { whole: this.#whole.spec, memory: this.#memory } };
  }

  label(index: number): number | undefined {
    return this.#whole.label(index);
  }

  path(index: number): string {
    return this.#whole.path(index);
  }

  read(index: number): Pixels | Promise<Pixels> {
    const start = Atomics.load(this.#entries, 2 * index);
    if (start > 0) return this.#cached(index, start - 1);
    const image = this.#whole.read(index);
    return image instanceof Promise ? image.then((image) => this.#keep(index, image)) : this.#keep(index, image);
  }

  #cached(index: number, unit: number): Pixels {
    const size = this.#entries[2 * index + 1]!;
    const width = size & 0x7fff;
    const height = size >>> 16;
    const channels = size & 0x8000 ? 3 : 1;
    return { width, height, channels, data: new Uint8Array(this.#memory.pixels, unit * UNIT, width * height * channels) };
  }

  #keep(index: number, image: Pixels): Pixels {
    const { width, height, channels, data } = image;
    if (width > 0x7fff || height > 0x7fff) return image;
    const units = Math.ceil(data.length / UNIT);
    const room = Math.floor(this.#memory.pixels.byteLength / UNIT);
    let unit = Atomics.load(this.#taken, 0);
    for (;;) {
      if (unit + units > room) return image;
      const before = Atomics.compareExchange(this.#taken, 0, unit, unit + units);
      if (before === unit) break;
      unit = before;
    }
    new Uint8Array(this.#memory.pixels).set(data, unit * UNIT);
    // The size first, then (atomically) the place, which makes the entry visible. Two threads that decode the same image at once
    // write the same size, and either copy will do.
    this.#entries[2 * index + 1] = width | (channels === 3 ? 0x8000 : 0) | (height << 16);
    Atomics.store(this.#entries, 2 * index, unit + 1);
    return image;
  }
}

/** Keeps up to `bytes` of decoded images of `dataset` in memory that all workers share. */
export function cached(dataset: Dataset, bytes: number): Dataset {
  const pixels = new SharedArrayBuffer(Math.floor(bytes / UNIT) * UNIT);
  const entries = new SharedArrayBuffer(dataset.length * 8);
  return new CachedDataset(dataset, { pixels, entries, taken: new SharedArrayBuffer(4) });
}
