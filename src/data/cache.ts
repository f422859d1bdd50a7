// Decoded images that are kept, for folders that are read again every epoch: in memory that all workers share, or in a file that the next
// run finds too (cache-file.ts). An image is put there by whichever thread decodes it first, and nothing is ever thrown out: with an
// order that is shuffled every epoch, each image is as likely to be wanted as any other, so eviction would only cost.
import type { Dataset, DatasetSpec } from "./dataset.js";
import { FilePixels, MemoryPixels, type PixelStore } from "./pixel-store.js";
import type { Pixels } from "./pixels.js";
import type { Normalization } from "./views.js";

/** What is kept, and where: memory that all threads share. */
export interface CacheTable {
  /**
   * Int32, three a sample: where its pixels start in units, plus one (0: not kept); size, width | colour << 15 | height << 16; and the
   * stamp of the sample that they were decoded from.
   */
  readonly entries: SharedArrayBuffer;
  /** Int32: how many units are taken. */
  readonly taken: SharedArrayBuffer;
  /** How many there are. */
  readonly room: number;
}

/** Where the pixels are: memory, or the path of a file. */
export type CachePlace = SharedArrayBuffer | string;

const COLOUR = 0x8000;
const LARGEST_SIDE = 0x7fff;

/** A dataset whose decoded images are kept, as long as there is room. */
export class CachedDataset implements Dataset {
  static readonly kind = "cached";
  readonly name: string;
  readonly length: number;
  readonly classes?: readonly string[];
  readonly normalization?: Normalization;
  readonly channels?: 1 | 3;
  readonly flush?: () => void;
  readonly #whole: Dataset;
  readonly #table: CacheTable;
  readonly #place: CachePlace;
  readonly #store: PixelStore;
  readonly #entries: Int32Array;
  readonly #taken: Int32Array;

  /** @param flush makes what is kept outlast the process */
  constructor(whole: Dataset, table: CacheTable, place: CachePlace, flush?: () => void) {
    this.#whole = whole;
    this.#table = table;
    this.#place = place;
    this.#store = typeof place === "string" ? new FilePixels(place) : new MemoryPixels(place);
    this.#entries = new Int32Array(table.entries);
    this.#taken = new Int32Array(table.taken);
    this.name = whole.name;
    this.length = whole.length;
    if (whole.classes) this.classes = whole.classes;
    if (whole.normalization) this.normalization = whole.normalization;
    if (whole.channels) this.channels = whole.channels;
    if (flush) this.flush = flush;
  }

  get spec(): DatasetSpec {
    return { kind: CachedDataset.kind, payload: { whole: this.#whole.spec, table: this.#table, place: this.#place } };
  }

  label(index: number): number | undefined {
    return this.#whole.label(index);
  }

  path(index: number): string {
    return this.#whole.path(index);
  }

  read(index: number): Pixels | Promise<Pixels> {
    const start = Atomics.load(this.#entries, 3 * index);
    if (start === 0) return this.#decode(index);
    const size = this.#entries[3 * index + 1]!;
    const image = { width: size & LARGEST_SIDE, height: size >>> 16, channels: size & COLOUR ? 3 : 1 } as const;
    const data = this.#store.get(start - 1, image.width * image.height * image.channels);
    if (data instanceof Uint8Array) return { ...image, data };
    return data.then((data) => (data ? { ...image, data } : this.#whole.read(index)));
  }

  #decode(index: number): Pixels | Promise<Pixels> {
    // Before it is read: of a file that changes meanwhile the pixels may be newer than the stamp, never older.
    const stamp = this.#whole.stamp?.(index) ?? 0;
    const image = this.#whole.read(index);
    return image instanceof Promise ? image.then((image) => this.#keep(index, stamp, image)) : this.#keep(index, stamp, image);
  }

  #keep(index: number, stamp: number, image: Pixels): Pixels {
    const { width, height, channels, data } = image;
    if (width > LARGEST_SIDE || height > LARGEST_SIDE) return image;
    const start = this.#take(Math.ceil(data.length / this.#store.unit));
    if (start === undefined) return image;
    if (!this.#store.put(start, data)) {
      Atomics.store(this.#taken, 0, this.#table.room);
      return image;
    }
    // Size and stamp first, then (atomically) the place, which makes the entry visible. Two threads that decode the same image at once
    // write the same, and either copy will do.
    this.#entries[3 * index + 1] = width | (channels === 3 ? COLOUR : 0) | (height << 16);
    this.#entries[3 * index + 2] = stamp;
    Atomics.store(this.#entries, 3 * index, start + 1);
    return image;
  }

  /** Takes so many units, where there are any left. */
  #take(units: number): number | undefined {
    let start = Atomics.load(this.#taken, 0);
    while (start + units <= this.#table.room) {
      const before = Atomics.compareExchange(this.#taken, 0, start, start + units);
      if (before === start) return start;
      start = before;
    }
    return undefined;
  }
}

/** Keeps up to `bytes` of decoded images of `dataset` in memory that all workers share. */
export function cached(dataset: Dataset, bytes: number): Dataset {
  const room = Math.floor(bytes / MemoryPixels.unit);
  const table = { entries: new SharedArrayBuffer(dataset.length * 12), taken: new SharedArrayBuffer(4), room };
  return new CachedDataset(dataset, table, new SharedArrayBuffer(room * MemoryPixels.unit));
}
