// safetensors files: the format that checkpoints and exported weights have in the whole field. One tensor at a time goes through memory,
// so a file may be larger than any buffer, and a file is there completely or not at all.
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { replaceFile } from "../files.js";
import { elementSize } from "./dtype.js";
import { SafetensorsError } from "./errors.js";
import { native } from "./native.js";
import {
  compareEntries,
  formatName,
  MAX_HEADER,
  makeHeader,
  metadataOf,
  parseHeader,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from "./safetensors-header.js";
import { tidy } from "./scope.js";
import { isTensor, type Tensor } from "./tensor.js";

export type { SafetensorsEntry, SafetensorsHeader } from "./safetensors-header.js";

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name, in the order of the data. */
  tensors: Map<string, Tensor>;
  metadata: Record<string, string>;
}

/** One read or write of the system moves at most this much. */
const PIECE = 1 << 30;

/**
 * Names, dtypes, shapes and places of a file's tensors, and its metadata, without reading their data.
 *
 * @throws SafetensorsError when the file cannot be read or is not a sound safetensors file
 */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  return withFile(path, (fd) => headerOf(fd));
}

/**
 * Reads a file. The tensors live in the caller's scope, on the CPU.
 *
 * @throws SafetensorsError when the file cannot be read or is not a sound safetensors file
 */
export function readSafetensors(path: string): SafetensorsFile {
  return withFile(path, (fd) => {
    const { tensors, metadata } = headerOf(fd);
    // The largest tensor's bytes pass through this one buffer, and so do all others'. The file is known to have that many.
    const largest = [...tensors.values()].reduce((most, { bytes }) => Math.max(most, bytes), 0);
    const staging = new Uint8Array(largest);
    return tidy(() => {
      const read = ([name, entry]: [string, SafetensorsEntry]): [string, Tensor] => {
        const bytes = staging.subarray(0, entry.bytes);
        fill(fd, bytes, entry.start);
        return [name, native.fromBytes(bytes, entry.shape, entry.dtype)];
      };
      return { tensors: new Map([...tensors].map(read)), metadata };
    });
  });
}

/**
 * Writes a file as the reference implementation does: the same order, alignment and header. It appears under its name only when all of it
 * is on the disk.
 *
 * @throws SafetensorsError when a tensor has a dtype that the format lacks (complex numbers), or when the file cannot be written
 */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>,
  metadata?: Readonly<Record<string, string>>,
): void {
  const entries = [...(tensors instanceof Map ? tensors : Object.entries(tensors as Record<string, Tensor>))].map(
    ([name, tensor]) => {
      if (typeof name !== "string" || name === "__metadata__")
        throw new SafetensorsError(`a tensor cannot be named ${String(name)}`);
      if (!isTensor(tensor)) throw new SafetensorsError(`"${name}" is not a Tensor`);
      formatName(tensor.dtype);
      return { name, tensor, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.numel * elementSize(tensor.dtype) };
    },
  );
  entries.sort(compareEntries);
  const header = makeHeader(entries, metadata && metadataOf(metadata));
  try {
    replaceFile(path, (fd) => {
      writeAll(fd, header);
      for (const { tensor } of entries) {
        const bits = tensor.bits();
        writeAll(fd, new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength));
      }
    });
  } catch (cause) {
    throw new SafetensorsError(`${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/** Opens a regular file, and puts its path before what goes wrong. */
function withFile<R>(path: string, fn: (fd: number) => R): R {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK); // a pipe without a writer would wait for ever
    return fn(fd);
  } catch (cause) {
    const { message } = cause as Error;
    throw new SafetensorsError(
      `${path} ${cause instanceof SafetensorsError ? "is not a sound safetensors file" : "cannot be read"}: ${message}`,
      {
        cause,
      },
    );
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function headerOf(fd: number): SafetensorsHeader {
  const file = fstatSync(fd);
  if (!file.isFile()) throw new Error("it is not a regular file");
  if (file.size < 8) throw new SafetensorsError(`it has ${file.size} bytes, the length of the header alone takes 8`);
  const lengthBytes = new Uint8Array(8);
  fill(fd, lengthBytes, 0);
  const length = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  if (length > MAX_HEADER) throw new SafetensorsError(`its header claims ${length} bytes; the format allows ${MAX_HEADER}`);
  const dataStart = 8 + Number(length);
  if (dataStart > file.size) throw new SafetensorsError(`its header claims ${length} bytes, the file has ${file.size} in all`);
  const json = new Uint8Array(Number(length));
  fill(fd, json, 8);
  return parseHeader(json, dataStart, file.size - dataStart);
}

/** Reads exactly these bytes. */
function fill(fd: number, target: Uint8Array, position: number): void {
  for (let done = 0; done < target.length; ) {
    const read = readSync(fd, target, done, Math.min(PIECE, target.length - done), position + done);
    if (read === 0) throw new SafetensorsError("it became shorter while it was read");
    done += read;
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, Math.min(PIECE, bytes.length - done));
}
