// PNG files whose pixels are numbers of classes, as they are stored: libvips, which decodes images here, turns a palette into colours. Grey and
// palette images of 1 to 16 bits without interlacing, which is what label tools write. Format: PNG specification, third edition.
import { inflateSync } from "node:zlib";

/** A PNG that is damaged, or no image of indices. The message says why, without the path. */
export class IndexPngError extends Error {}

export interface IndexImage {
  readonly width: number;
  readonly height: number;
  /** Row by row; palette indices, or grey values as they are stored. */
  readonly data: Uint8Array | Uint16Array;
}

interface Header {
  readonly width: number;
  readonly height: number;
  /** Bits of a pixel. */
  readonly depth: number;
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const colours: Readonly<Record<number, string>> = {
  2: "RGB colours",
  4: "grey and transparency",
  6: "RGB colours and transparency",
};

/** @throws IndexPngError */
export function decodeIndexPng(file: Uint8Array): IndexImage {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (!bytes.subarray(0, 8).equals(SIGNATURE)) throw new IndexPngError("it is not a PNG file");
  let header: Header | undefined;
  const parts: Buffer[] = [];
  for (let at = 8; ; ) {
    if (at + 8 > bytes.length) throw new IndexPngError("it is cut off");
    const length = bytes.readUInt32BE(at);
    const type = bytes.toString("latin1", at + 4, at + 8);
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (content.length < length) throw new IndexPngError("it is cut off");
    if (type === "IHDR") header = headerOf(content);
    else if (type === "IDAT") parts.push(content);
    else if (type === "IEND") break;
    at += 12 + length;
  }
  if (!header) throw new IndexPngError("it has no header");
  const { width, height, depth } = header;
  const pitch = Math.ceil((width * depth) / 8);
  return { width, height, data: unpacked(unfiltered(inflated(parts, height * (pitch + 1)), header, pitch), header, pitch) };
}

function headerOf(content: Buffer): Header {
  if (content.length !== 13) throw new IndexPngError("its header is damaged");
  const [width, height] = [content.readUInt32BE(0), content.readUInt32BE(4)];
  const [depth, colour, , , interlaced] = content.subarray(8) as unknown as [number, number, number, number, number];
  if (colour !== 0 && colour !== 3) {
    throw new IndexPngError(
      `it holds ${colours[colour] ?? "an unknown kind of pixels"}; expected one number a pixel: grey or palette`,
    );
  }
  if (![1, 2, 4, 8, 16].includes(depth) || width === 0 || height === 0) throw new IndexPngError("its header is damaged");
  if (interlaced !== 0) throw new IndexPngError("it is interlaced; save it without interlacing");
  return { width, height, depth };
}

function inflated(parts: readonly Buffer[], expected: number): Buffer {
  let raw: Buffer;
  try {
    raw = inflateSync(Buffer.concat(parts), { maxOutputLength: expected });
  } catch (cause) {
    throw new IndexPngError("it is cut off or damaged", { cause });
  }
  if (raw.length !== expected) throw new IndexPngError("it is cut off or damaged");
  return raw;
}

/** Undoes the row filters in place; each row still begins with its filter's number. */
function unfiltered(raw: Buffer, { height, depth }: Header, pitch: number): Buffer {
  const step = Math.max(1, depth >> 3);
  for (let y = 0; y < height; y++) {
    const at = y * (pitch + 1) + 1;
    const filter = raw[at - 1]!;
    if (filter > 4) throw new IndexPngError("it is damaged: a row has an unknown filter");
    if (filter === 0) continue;
    for (let i = 0; i < pitch; i++) {
      const left = i >= step ? raw[at + i - step]! : 0;
      const up = y > 0 ? raw[at + i - pitch - 1]! : 0;
      let guess = filter === 1 ? left : filter === 2 ? up : (left + up) >> 1;
      if (filter === 4) guess = paeth(left, up, i >= step && y > 0 ? raw[at + i - step - pitch - 1]! : 0);
      raw[at + i] = raw[at + i]! + guess;
    }
  }
  return raw;
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** One number a pixel, without the filters' numbers. */
function unpacked(raw: Buffer, { width, height, depth }: Header, pitch: number): Uint8Array | Uint16Array {
  const data = depth === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  const most = (1 << depth) - 1;
  for (let y = 0; y < height; y++) {
    const at = y * (pitch + 1) + 1;
    const to = y * width;
    if (depth === 8) data.set(raw.subarray(at, at + width), to);
    else if (depth === 16) for (let x = 0; x < width; x++) data[to + x] = raw.readUInt16BE(at + 2 * x);
    else for (let x = 0; x < width; x++) data[to + x] = (raw[at + ((x * depth) >> 3)]! >> (8 - depth - ((x * depth) & 7))) & most;
  }
  return data;
}
