// The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor lies. A file may be truncated or made to
// harm, so nothing in it is believed before it is checked, and nothing is allocated by its word.
import type { DType } from "./dtype.js";
import { elementSize } from "./dtype.js";
import { SafetensorsError } from "./errors.js";

/** Where one tensor lies. */
export interface SafetensorsEntry {
  dtype: DType;
  shape: number[];
  /** First byte of its data, counted from the beginning of the file. */
  start: number;
  /** Number of bytes. */
  bytes: number;
}

export interface SafetensorsHeader {
  /** By name, in the order of the data. */
  tensors: Map<string, SafetensorsEntry>;
  metadata: Record<string, string>;
}

/** The format's own bound on the header. */
export const MAX_HEADER = 100_000_000;

const METADATA = "__metadata__";

/** The format's names, in the order that the reference implementation writes their tensors in: widest first, so that each is aligned. */
const NAMES: readonly [string, DType][] = [
  ["I64", "int64"],
  ["F64", "float64"],
  ["F32", "float32"],
  ["I32", "int32"],
  ["BF16", "bfloat16"],
  ["F16", "float16"],
  ["I16", "int16"],
  ["I8", "int8"],
  ["U8", "uint8"],
  ["BOOL", "bool"],
];

const byFormatName = new Map(NAMES);
const formatNames = new Map(NAMES.map(([name, dtype]) => [dtype, name]));

/** Deeper than this a header does not nest: the file, a tensor, a shape. */
const MAX_DEPTH = 3;

/** No tensor has more dimensions. */
const MAX_DIMENSIONS = 64;

/**
 * Reads the JSON of a header and checks all of it: every tensor's bytes follow the one before without hole or overlap, and the last ends
 * where the file does.
 *
 * @param json the header's bytes
 * @param dataStart where the data begins in the file
 * @param dataBytes how many bytes of data the file has
 * @throws SafetensorsError
 */
export function parseHeader(json: Uint8Array, dataStart: number, dataBytes: number): SafetensorsHeader {
  const top = parseJson(json);
  const metadata: Record<string, string> = {};
  const found: { name: string; begin: number; end: number; entry: SafetensorsEntry }[] = [];
  for (const [name, value] of Object.entries(top)) {
    if (name === METADATA) Object.assign(metadata, metadataOf(value));
    else found.push({ name, ...entryOf(name, value, dataStart) });
  }
  found.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let reached = 0;
  for (const { name, begin, end } of found) {
    if (begin !== reached) {
      const what = begin < reached ? "overlaps the one before" : "leaves a hole before it";
      throw new SafetensorsError(`tensor ${quote(name)} ${what}: it begins at byte ${begin} of the data, expected ${reached}`);
    }
    reached = end;
  }
  if (reached !== dataBytes) {
    throw new SafetensorsError(`the header speaks of ${reached} bytes of data, the file has ${dataBytes}`);
  }
  return { tensors: new Map(found.map(({ name, entry }) => [name, entry])), metadata };
}

/** The header's bytes for these tensors in this order, its length in front, padded so that the data begins at a multiple of 8. */
export function makeHeader(
  tensors: readonly { name: string; dtype: DType; shape: readonly number[]; bytes: number }[],
  metadata: Readonly<Record<string, string>> | undefined,
): Uint8Array {
  const parts: string[] = [];
  if (metadata) parts.push(`${JSON.stringify(METADATA)}:${JSON.stringify(metadata)}`);
  let begin = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    const entry = { dtype: formatName(dtype), shape, data_offsets: [begin, begin + bytes] };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    begin += bytes;
  }
  const json = new TextEncoder().encode(`{${parts.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER) throw new SafetensorsError(`the header would have ${length} bytes; the format allows ${MAX_HEADER}`);
  const out = new Uint8Array(8 + length).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(json, 8);
  return out;
}

/** The order of the reference implementation: by dtype, widest first, then by name. */
export function compareEntries(a: { name: string; dtype: DType }, b: { name: string; dtype: DType }): number {
  const rank = (dtype: DType) => NAMES.findIndex(([, each]) => each === dtype);
  return rank(a.dtype) - rank(b.dtype) || Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

/** The format's name of a dtype. */
export function formatName(dtype: DType): string {
  const name = formatNames.get(dtype);
  if (name) return name;
  throw new SafetensorsError(`safetensors has no dtype ${dtype}; convert the tensor with to() first`);
}

/** Checks what may be written as metadata. */
export function metadataOf(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SafetensorsError(`${METADATA} is ${kind(value)}, expected an object of strings`);
  }
  for (const [key, each] of Object.entries(value)) {
    if (typeof each !== "string") throw new SafetensorsError(`${METADATA} has ${kind(each)} at ${quote(key)}, expected a string`);
  }
  return value as Record<string, string>;
}

function parseJson(bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SafetensorsError("the header is not UTF-8 text", { cause });
  }
  if (!text.startsWith("{")) throw new SafetensorsError("the header does not begin with {");
  checkNesting(text);
  let top: unknown;
  try {
    top = JSON.parse(text);
  } catch (cause) {
    throw new SafetensorsError(`the header is not JSON (${(cause as Error).message.slice(0, 100)})`, { cause });
  }
  checkKeys(text);
  return top as Record<string, unknown>;
}

const [QUOTE, BACKSLASH, COLON, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST] = [0x22, 0x5c, 0x3a, 0x7b, 0x7d, 0x5b, 0x5d];

/** Calls back for each bracket and each string (with where it ends); what stands in strings is not looked into. */
function scan(text: string, bracket: (code: number) => void, string: (start: number, end: number) => void): void {
  for (let i = 0; i < text.length; ++i) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      const start = i;
      for (++i; i < text.length && text.charCodeAt(i) !== QUOTE; ++i) if (text.charCodeAt(i) === BACKSLASH) ++i;
      string(start, i + 1);
    } else if (code === OPEN || code === CLOSE || code === OPEN_LIST || code === CLOSE_LIST) bracket(code);
  }
}

// Before JSON.parse, so that a hundred megabytes of opening brackets do not become a hundred million arrays.
function checkNesting(text: string): void {
  let depth = 0;
  scan(
    text,
    (code) => {
      depth += code === OPEN || code === OPEN_LIST ? 1 : -1;
      if (depth > MAX_DEPTH) throw new SafetensorsError("the header nests deeper than the format does");
    },
    () => {},
  );
}

// JSON.parse keeps the last of two equal keys in silence. The text is known to be JSON here.
function checkKeys(text: string): void {
  const open: Set<string>[] = [];
  scan(
    text,
    (code) => {
      if (code === OPEN || code === OPEN_LIST) open.push(new Set());
      else open.pop();
    },
    (start, end) => {
      let next = end;
      while (next < text.length && text.charCodeAt(next) <= 0x20) ++next;
      if (text.charCodeAt(next) !== COLON) return;
      const key = JSON.parse(text.slice(start, end)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) throw new SafetensorsError(`the header has the key ${quote(key)} twice`);
      keys.add(key);
    },
  );
}

function entryOf(name: string, value: unknown, dataStart: number): { begin: number; end: number; entry: SafetensorsEntry } {
  const wrong = (what: string) => new SafetensorsError(`tensor ${quote(name)}: ${what}`);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw wrong(`its entry is ${kind(value)}, expected an object`);
  const { dtype: format, shape, data_offsets: offsets } = value as Record<string, unknown>;
  const dtype = typeof format === "string" ? byFormatName.get(format) : undefined;
  if (!dtype) {
    throw wrong(
      `its dtype is ${typeof format === "string" ? quote(format) : kind(format)}, expected one of ${[...byFormatName.keys()].join(", ")}`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) throw wrong("its shape is not a list of whole numbers of 0 or more");
  if (shape.length > MAX_DIMENSIONS) throw wrong(`it has ${shape.length} dimensions, at most ${MAX_DIMENSIONS} are taken`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw wrong("its data_offsets are not two whole numbers of 0 or more");
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw wrong(`its data ends at byte ${end}, before it begins at ${begin}`);
  // Zeros do not count, so that [0, 2^52, 2^52] is too large as well: torch computes strides from it.
  const extent = shape.reduce((product, size) => product * Math.max(size, 1), elementSize(dtype));
  if (!Number.isSafeInteger(extent)) throw wrong(`its shape [${shape.join(", ")}] is too large`);
  const bytes = shape.includes(0) ? 0 : extent;
  if (bytes !== end - begin) {
    throw wrong(
      `its shape [${shape.join(", ")}] of ${format as string} needs ${bytes} bytes, its data_offsets give it ${end - begin}`,
    );
  }
  return { begin, end, entry: { dtype, shape, start: dataStart + begin, bytes } };
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
}

function kind(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : `a ${typeof value}`;
}
