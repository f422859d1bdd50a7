// A cache of decoded images in a file, for data sets whose decoding costs more than their views: the next run starts with what this one
// has decoded, and the system's page cache, which is shared by all processes and gives way to them, decides what of it is in memory.
// It is read with pread, not mapped: Node cannot map files, and one copy of an image costs a fiftieth of its decoding.
//
// Beside the pixels lies an index, which is written anew after the pixels that it tells of are on the disk, at the end of each epoch:
// what a killed run has added since is decoded again. A lock says which process adds; others read what the index had when they began.
import { closeSync, existsSync, fdatasyncSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { replaceFile, writeFully } from "../files.js";
import { takeLock } from "../lock.js";
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

/** The caches of this process, by the path of their files without its ending: those who open one again share it. */
const open = new Map<string, OpenCache>();

/**
 * Keeps up to `bytes` of decoded images of `dataset` in `folder`, under a name that is made of everything that the pixels depend on. A
 * file that has changed since it was decoded is decoded again.
 *
 * @throws DataError where the dataset is no collection of image files, or the folder cannot be written to
 */
export function cachedInFile(dataset: Dataset, folder: string, bytes: number): Dataset {
  const { fingerprint } = dataset;
  if (fingerprint === undefined) {
    throw new DataError(`${dataset.name} has no image files whose pixels could be kept in ${folder}; do without a cache folder.`);
  }
  const base = resolve(folder, fingerprint.slice(0, 24));
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
  const lock = `${base}.lock`;
  const mine = takeLock(lock) === null;
  if (mine) process.once("exit", () => rmSync(lock, { force: true }));
  closeSync(openSync(pixels, "a"));
  const entries = new Int32Array(new SharedArrayBuffer(dataset.length * 12));
  const taken = new Int32Array(new SharedArrayBuffer(4));
  taken[0] = readIndex(index, unitsOf(pixels), dataset, entries);
  const table = { entries: entries.buffer, taken: taken.buffer, room: mine ? room : 0 };
  if (!mine) return { table, pixels };
  let flushed = snapshot(entries).kept;
  const flush = (): void => {
    const { copy, kept } = snapshot(entries);
    if (kept === flushed) return;
    flushed = kept;
    try {
      // Units are counted after the copy, so that none of those in it is taken to be free.
      writeIndex(index, pixels, Atomics.load(taken, 0), copy);
    } catch (error) {
      // What a cache cannot do is no reason to end a run.
      process.emitWarning(`The next run will decode these images again: ${index} cannot be written (${messageOf(error)}).`);
    }
  };
  return { table, pixels, flush };
}

/** The entries whose pixels have been written by now, and how many those are, while other threads add more. */
function snapshot(entries: Int32Array): { copy: Int32Array<ArrayBuffer>; kept: number } {
  const copy = new Int32Array(entries.length);
  let kept = 0;
  for (let i = 0; i < entries.length; i += 3) {
    const start = Atomics.load(entries, i);
    if (start === 0) continue;
    copy.set([start, entries[i + 1]!, entries[i + 2]!], i);
    kept++;
  }
  return { copy, kept };
}

/** Tells of what has been written, once it is on the disk. */
function writeIndex(index: string, pixels: string, taken: number, entries: Int32Array<ArrayBuffer>): void {
  const handle = openSync(pixels, "r+");
  try {
    fdatasyncSync(handle);
  } finally {
    closeSync(handle);
  }
  const header = Int32Array.of(MAGIC, VERSION, entries.length / 3, taken, unitsOf(pixels));
  replaceFile(index, (handle) => {
    for (const part of [header, entries]) writeFully(handle, new Uint8Array(part.buffer));
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
