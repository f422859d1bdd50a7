// Where a cache of decoded images has its pixels: in memory that threads share, or in a file.
import { openSync, read, writeSync } from "node:fs";
import { messageOf } from "./errors.js";

/** A store of bytes in units of a fixed size. */
export interface PixelStore {
  /** Bytes of a unit. */
  readonly unit: number;
  /** Writes; false where that failed. */
  put(start: number, data: Uint8Array): boolean;
  /** Reads; undefined where that failed. */
  get(start: number, length: number): Uint8Array | Promise<Uint8Array | undefined>;
}

/** In memory. */
export class MemoryPixels implements PixelStore {
  static readonly unit = 16;
  readonly unit = MemoryPixels.unit;
  readonly #memory: SharedArrayBuffer;

  constructor(memory: SharedArrayBuffer) {
    this.#memory = memory;
  }

  put(start: number, data: Uint8Array): boolean {
    new Uint8Array(this.#memory).set(data, start * this.unit);
    return true;
  }

  get(start: number, length: number): Uint8Array {
    return new Uint8Array(this.#memory, start * this.unit, length);
  }
}

/** In a file. */
export class FilePixels implements PixelStore {
  /** A terabyte in 31 bits, and an eighth of a page. */
  static readonly unit = 512;
  readonly unit = FilePixels.unit;
  readonly #path: string;
  #opened: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Opened when it is needed: where there are workers, the main thread reads nothing. */
  get #handle(): number {
    this.#opened ??= openSync(this.#path, "r+");
    return this.#opened;
  }

  put(start: number, data: Uint8Array): boolean {
    try {
      for (let done = 0; done < data.length; ) {
        done += writeSync(this.#handle, data, done, data.length - done, start * this.unit + done);
      }
      return true;
    } catch (error) {
      process.emitWarning(`No more decoded images are kept: ${this.#path} cannot be written (${messageOf(error)}).`);
      return false;
    }
  }

  get(start: number, length: number): Promise<Uint8Array | undefined> {
    const data = new Uint8Array(length);
    return new Promise((resolve) => {
      read(this.#handle, data, 0, length, start * this.unit, (error, bytes) =>
        resolve(error || bytes < length ? undefined : data),
      );
    });
  }
}
