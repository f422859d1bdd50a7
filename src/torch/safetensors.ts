// safetensors: an 8-byte length, a JSON header, then the tensors' bytes. Reading checks everything the header claims against the file
// before any memory is asked for, so a truncated or hostile file gets a sentence, never a crash.
// Format: https://github.com/huggingface/safetensors#format
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { TesseraError } from "../errors.js";
import { replaceFile, writeFully } from "../files.js";
import { fromTypedArray } from "./create.js";
import { arrayFor, type DType, elementSize } from "./dtype.js";
import { tidy } from "./scope.js";
import type { Tensor } from "./tensor.js";

/** A file that is not safetensors, or not all of it, or not of a kind this library reads. */
export class SafetensorsError extends TesseraError {}

/** What the header says of one tensor. */
export interface SafetensorsEntry {
  dtype: DType;
  shape: number[];
  /** First byte and the byte after the last, counted from the start of the file. */
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  entries: Map<string, SafetensorsEntry>;
  metadata: Record<string, string>;
}

/** As the reference implementation: a longer header is refused. */
const maxHeader = 100_000_000;

const names: Record<string, DType> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
};
const codes = new Map(Object.entries(names).map(([code, dtype]) => [dtype, code]));

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Reads and checks the header of a file. */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  const handle = open(path);
  try {
    return readHeader(handle, path);
  } finally {
    closeSync(handle);
  }
}

/** Reads a whole file. The tensors live in the caller's scope. */
export function readSafetensors(path: string): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const handle = open(path);
  try {
    const { entries, metadata } = readHeader(handle, path);
    const tensors = tidy(() => {
      const all = new Map<string, Tensor>();
      for (const [name, { dtype, shape, begin, end }] of entries) {
        const data = arrayFor(dtype, (end - begin) / elementSize(dtype));
        readFully(handle, new Uint8Array(data.buffer), begin, path);
        all.set(name, fromTypedArray(data, shape, { dtype }));
      }
      return all;
    });
    return { tensors, metadata };
  } finally {
    closeSync(handle);
  }
}

/** Writes a file through a temporary one that is synced and renamed: `path` is either as before or complete. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  // Largest elements first keeps every tensor aligned to its elements, as the reference implementation does; then by name.
  const sorted = [...(tensors instanceof Map ? tensors : new Map(Object.entries(tensors)))]
    .map(([name, tensor]) => ({ name, tensor, dtype: tensor.dtype }))
    .sort((a, b) => elementSize(b.dtype) - elementSize(a.dtype) || (a.name < b.name ? -1 : 1));
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let offset = 0;
  for (const { name, tensor, dtype } of sorted) {
    const code = codes.get(dtype);
    if (!code) throw new SafetensorsError(`${name} is ${dtype}, which safetensors files of this library do not hold`);
    if (name === "__metadata__") throw new SafetensorsError("no tensor can be called __metadata__");
    const size = tensor.numel * elementSize(dtype);
    header[name] = { dtype: code, shape: tensor.shape, data_offsets: [offset, offset + size] };
    offset += size;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(0x20);
  padded.set(json);
  if (padded.length > maxHeader)
    throw new SafetensorsError(`the header would have ${padded.length} bytes, more than ${maxHeader}`);
  replaceFile(path, (handle) => {
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true);
    writeFully(handle, length);
    writeFully(handle, padded);
    for (const { tensor } of sorted) {
      const bits = tensor.bits();
      writeFully(handle, new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength));
    }
  });
}

function open(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    throw new SafetensorsError(`${path} cannot be opened: ${(error as Error).message}`, { cause: error });
  }
}

function readFully(handle: number, target: Uint8Array, position: number, path: string): void {
  for (let done = 0; done < target.length; ) {
    const count = readSync(handle, target, done, Math.min(target.length - done, 1 << 30), position + done);
    if (count === 0) throw new SafetensorsError(`${path} ended while it was read`);
    done += count;
  }
}

function readHeader(handle: number, path: string): SafetensorsHeader {
  const fail = (what: string): never => {
    throw new SafetensorsError(`${path} is not a whole safetensors file: ${what}`);
  };
  const status = fstatSync(handle);
  if (!status.isFile()) fail("it is not a regular file");
  const { size } = status;
  if (size < 8) fail(`it has ${size} bytes, too few for a header`);
  const prefix = new Uint8Array(8);
  readFully(handle, prefix, 0, path);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(maxHeader)) fail(`its header would have ${length} bytes, more than ${maxHeader}`);
  const start = 8 + Number(length);
  if (start > size) fail(`its header would have ${length} bytes, the file has ${size}`);
  const bytes = new Uint8Array(Number(length));
  readFully(handle, bytes, 8, path);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    fail(`its header is not JSON (${(error as Error).message})`);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) fail("its header is not a JSON object");
  const { __metadata__: metadata = {}, ...described } = header as Record<string, unknown>;
  if (
    typeof metadata !== "object" ||
    metadata === null ||
    Array.isArray(metadata) ||
    Object.values(metadata).some((value) => typeof value !== "string")
  ) {
    fail("its metadata is not a map of strings");
  }
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, description] of Object.entries(described)) {
    entries.set(name, readEntry(name, description, start, size - start, fail));
  }
  let end = start;
  for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== end)
      fail(`the bytes of ${name} begin at ${entry.begin - start}, expected ${end - start}: a hole or an overlap`);
    end = entry.end;
  }
  if (end !== size) fail(`its tensors end at byte ${end}, the file has ${size}`);
  return { entries, metadata: metadata as Record<string, string> };
}

function readEntry(name: string, value: unknown, start: number, room: number, fail: (what: string) => never): SafetensorsEntry {
  const { dtype: code, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const dtype = typeof code === "string" && Object.hasOwn(names, code) ? names[code]! : undefined;
  if (!dtype) return fail(`${name} has the dtype ${JSON.stringify(code)}; this library reads ${Object.keys(names).join(", ")}`);
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`the shape of ${name} is ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`the offsets of ${name} are ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > room) return fail(`the bytes of ${name} would be ${begin} to ${end} of ${room}`);
  const count = shape.reduce((product: number, each: number) => product * each, 1);
  if (count * elementSize(dtype) !== end - begin) {
    return fail(`${name} has ${end - begin} bytes, but ${code} [${shape.join(", ")}] has ${count * elementSize(dtype)}`);
  }
  return { dtype, shape: shape as number[], begin: start + begin, end: start + end };
}
