// Image files to pixels, by sharp (libvips). EXIF orientation is applied, transparency is laid on white, CMYK and 16-bit images become
// 8-bit sRGB, of an animation the first frame is taken. A file that is cut off, damaged, too large or no image is a bad sample.
import { accessSync, constants, statSync } from "node:fs";
import type Sharp from "sharp";
import { BadSampleError, DataError, messageOf } from "./errors.js";
import type { Pixels } from "./pixels.js";

/** Extensions that are taken for images. */
export const imageExtensions: readonly string[] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "tif", "tiff", "avif"];

export interface DecodeOptions {
  /** Images of more pixels are bad samples, before any memory is spent on them. Default 100 million. */
  maxPixels?: number;
  /** Images whose shorter side is below this many pixels are bad samples (tracking pixels, rulers). Default 4. */
  minSide?: number;
  /**
   * Images whose shorter side is longer are made this size while decoding, which is much faster for large JPEGs (they are decoded
   * at 1/2, 1/4 or 1/8). Twice the largest view costs no visible detail. Default: off, decode in full.
   */
  shrinkTo?: number;
  /** Turn the image as its EXIF data says. Default true. */
  orient?: boolean;
}

let loading: Promise<typeof Sharp> | undefined;

/**
 * Loads sharp once per thread, with one libvips thread per image and no cache: images are the unit of parallelism here, and each is
 * used once. The main thread must have loaded it before a worker does, so that the library outlives the worker.
 */
export function loadSharp(): Promise<typeof Sharp> {
  loading ??= import("sharp").then(
    ({ default: sharp }) => {
      sharp.concurrency(1);
      sharp.cache(false);
      return sharp;
    },
    (cause) => {
      throw new DataError(`sharp, which decodes images, cannot be loaded: ${messageOf(cause).split("\n")[0]} Run npm ci.`, {
        cause,
      });
    },
  );
  return loading;
}

/** Says what is wrong with a path before libvips sees it: its own words for these are misleading. */
function checkFile(path: string): void {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new BadSampleError(code === "ENOENT" ? "there is no such file (or a link to nothing)" : messageOf(cause), { cause });
  }
  if (stat.isDirectory()) throw new BadSampleError("it is a directory");
  if (!stat.isFile()) throw new BadSampleError("it is not a regular file");
  if (stat.size === 0) throw new BadSampleError("it is empty (0 bytes)");
  try {
    accessSync(path, constants.R_OK);
  } catch (cause) {
    throw new BadSampleError("it may not be read (no permission)", { cause });
  }
}

/** Decodes one file to RGB. Every failure is a `BadSampleError`. */
export async function decodeFile(path: string, options: DecodeOptions = {}): Promise<Pixels> {
  const { maxPixels = 100_000_000, minSide = 4, shrinkTo, orient = true } = options;
  const sharp = await loadSharp();
  checkFile(path);
  const decode = (): Promise<Decoded> => {
    let image = sharp(path, { failOn: "error", limitInputPixels: maxPixels, autoOrient: orient, pages: 1 })
      .flatten({ background: "#ffffff" })
      .toColourspace("srgb");
    if (shrinkTo !== undefined) image = image.resize(shrinkTo, shrinkTo, { fit: "outside", withoutEnlargement: true });
    return image.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  };
  let result: Decoded;
  try {
    result = await decode();
  } catch (cause) {
    throw new BadSampleError(await reasonFor(cause, maxPixels, decode), { cause });
  }
  const { data, info } = result;
  const { width, height, channels } = info;
  if (Math.min(width, height) < minSide) {
    throw new BadSampleError(`it is ${width}x${height} px, the shorter side below ${minSide}`);
  }
  if (channels !== 1 && channels !== 3) throw new BadSampleError(`it decodes to ${channels} channels`);
  return { width, height, channels, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

interface Decoded {
  readonly data: Buffer;
  readonly info: { readonly width: number; readonly height: number; readonly channels: number };
}

/**
 * libvips keeps one error text for the whole process, so while other images are decoded a failure may come with another's words or
 * with none. A text counts once it has been given twice in a row; bad files are rare, and decoding them again costs little.
 */
async function reasonFor(error: unknown, maxPixels: number, decode: () => Promise<unknown>): Promise<string> {
  let text = messageOf(error);
  if (/exceeds pixel limit/.test(text)) return `it has more than ${maxPixels} pixels`;
  if (/unsupported image format/.test(text)) return "it is not an image in a known format";
  for (let attempt = 0; attempt < 4; attempt++) {
    const again = await decode().then(() => undefined, messageOf);
    if (again === text && !/unknown error/i.test(text)) {
      const lines = text.split("\n").map((line) => line.trim());
      return `it is cut off or damaged (${lines.filter(Boolean).slice(0, 2).join(" ").slice(0, 160)})`;
    }
    if (again !== undefined) text = again;
  }
  return "it is cut off or damaged";
}
