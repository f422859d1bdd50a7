// A cache of decoded images in a file, for data sets whose decoding costs more than their views: the next run starts with what this one
// has decoded, and the system's page cache, which is shared by all processes and gives way to them, decides what of it is in memory.
// It is read with pread, not mapped: Node cannot map files, and one copy of an image costs a fiftieth of its decoding.
//
// Beside the pixels lies an index, which is written anew after the pixels that it tells of are on the disk, at the end of each epoch:
// what a killed run has added since is decoded again. A lock says which process adds; others read what the index had when they began.
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { replaceFile, writeFully } from "../files.js";
import { isAlive } from "../process.js";
import { CachedDataset, type CacheTable } from "./cache.js";
import type { Dataset } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import { FilePixels } from "./pixel-store.js";

const UNIT = FilePixels.unit;

const MAGIC = 0x54_45_53_43;
const VERSION = 1;
const HEADER = 5;

interface OpenCache {
  readonly table: CacheTable;
  readonly pixels: string;
  readonly flush?: () => void;
}

/** The caches of this process, by the path of their pixels: those who open one again share it. */
const open = new Map<string, OpenCache>();

/**
 * Keeps up to `bytes` of decoded images of `dataset` in `folder`, under a name that is made of everything that the pixels depend on. A
 * file that has changed since it was decoded is decoded again.
 *
 * @throws DataError where the dataset is no collection of image files, or the folder cannot be written to
 */
export function cachedInFile(dataset: Dataset, folder: string, bytes: number): Dataset {
  if (dataset.fingerprint === undefined) {
    throw new DataError(`${dataset.name} has no image files whose pixels could be kept in ${folder}; do without a cache folder.`);
  }
  const base = resolve(folder, dataset.fingerprint.slice(0, 24));
  let cache = open.get(base);
  if (!cache) {
    try {
      mkdirSync(folder, { recursive: true });
      cache = openCache(dataset, base, Math.min(Math.floor(bytes / UNIT), 2 ** 31 - 2));
    } catch (cause) {
      throw new DataError(`${folder} cannot hold decoded images: ${messageOf(cause)}.`, { cause });
    }
    open.set(base, cache);
  }
  return new CachedDataset(dataset, cache.table, cache.pixels, cache.flush);
}

function openCache(dataset: Dataset, base: string, room: number): OpenCache {
  const [pixels, index] = [`${base}.pixels`, `${base}.index`];
  const mine = lock(`${base}.lock`);
  closeSync(openSync(pixels, "a"));
  const entries = new Int32Array(new SharedArrayBuffer(dataset.length * 12));
  const taken = new Int32Array(new SharedArrayBuffer(4));
  taken[0] = readIndex(index, unitsOf(pixels), dataset, entries);
  const table = { entries: entries.buffer, taken: taken.buffer, room: mine ? room : 0 };
  if (!mine) return { table, pixels };
  let flushed = taken[0];
  const flush = (): void => {
    const until = Atomics.load(taken, 0);
    if (until === flushed) return;
    flushed = until;
    try {
      writeIndex(index, pixels, until, entries);
    } catch (error) {
      // What a cache cannot do is no reason to end a run.
      process.emitWarning(`The next run will decode these images again: ${index} cannot be written (${messageOf(error)}).`);
    }
  };
  return { table, pixels, flush };
}

/** Tells of what has been written, once it is on the disk. */
function writeIndex(index: string, pixels: string, taken: number, entries: Int32Array): void {
  // An entry is in this copy only if its pixels have been written; they reach the disk before it does.
  const copy = Int32Array.from(entries);
  const handle = openSync(pixels, "r+");
  try {
    fdatasyncSync(handle);
  } finally {
    closeSync(handle);
  }
  const header = Int32Array.of(MAGIC, VERSION, entries.length / 3, taken, unitsOf(pixels));
  replaceFile(index, (handle) => {
    for (const part of [header, copy]) writeFully(handle, new Uint8Array(part.buffer));
  });
}

function unitsOf(pixels: string): number {
  return Math.floor(statSync(pixels).size / UNIT);
}

/**
 * Reads what an index tells and what still holds. It is a header and the table's entries, int32 in the machine's byte order, which the
 * first of them shows.
 *
 * @returns how many units are taken
 */
function readIndex(index: string, units: number, dataset: Dataset, entries: Int32Array): number {
  if (!existsSync(index)) return 0;
  const bytes = readFileSync(index);
  if (bytes.length !== 4 * HEADER + entries.byteLength) return 0;
  const numbers = new Int32Array(Uint8Array.from(bytes).buffer);
  const [magic, version, length, taken = 0, written = 0] = numbers;
  // Fewer units than there were: the pixels are not those that the index tells of.
  if (magic !== MAGIC || version !== VERSION || length !== dataset.length || units < written) return 0;
  entries.set(numbers.subarray(HEADER));
  for (let i = 0; i < dataset.length; i++) {
    if (entries[3 * i] !== 0 && entries[3 * i + 2] !== dataset.stamp?.(i)) entries[3 * i] = 0;
  }
  return taken;
}

/** Whether this process is now the one that adds. A lock that a dead process of this machine left is taken over. */
function lock(path: string): boolean {
  const me = `${process.pid} ${hostname()}`;
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      writeFileSync(path, me, { flag: "wx" });
      process.once("exit", () => rmSync(path, { force: true }));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const [pid, host] = readFileSync(path, "utf8").split(" ");
    if (host !== hostname() || isAlive(Number(pid))) return false;
    rmSync(path, { force: true });
  }
  return false;
}
