// Fashion-MNIST (and anything in MNIST's IDX format): four files, gzipped or plain.
// IDX: two zero bytes, a type byte (8 = unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit integer, data.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { ArrayDataset } from "./arrays.js";
import { type Split, sharedBytes, sharedInts } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";

const CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const DEBIAN = "/usr/share/datasets/fashion-mnist";
const LARGEST = 2 ** 31;

/** Parses an IDX file of unsigned bytes with `rank` dimensions. */
export function parseIdx(bytes: Uint8Array, rank: number, path: string): { shape: number[]; data: Uint8Array } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = 4 + 4 * rank;
  if (bytes.length < header || view.getUint16(0) !== 0 || view.getUint8(2) !== 8 || view.getUint8(3) !== rank) {
    throw new DataError(`${path} is not an IDX file of ${rank}-dimensional bytes.`);
  }
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((product, n) => product * n, 1);
  if (size !== bytes.length - header) {
    throw new DataError(
      `${path} says it holds ${shape.join(" x ")} bytes but has ${bytes.length - header}; it is cut off or damaged.`,
    );
  }
  return { shape, data: bytes.subarray(header) };
}

function readIdx(folder: string, name: string, rank: number): { shape: number[]; data: Uint8Array } {
  const plain = join(folder, name);
  const path = existsSync(`${plain}.gz`) ? `${plain}.gz` : plain;
  if (!existsSync(path)) {
    throw new DataError(
      `Fashion-MNIST: ${plain}.gz is not there. Install Debian's package dataset-fashion-mnist, or put the four IDX files in a folder ` +
        "and name it: FASHION_MNIST=DIR or fashion-mnist:DIR.",
    );
  }
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
    if (path.endsWith(".gz")) bytes = gunzipSync(bytes, { maxOutputLength: LARGEST });
  } catch (cause) {
    throw new DataError(`${path} cannot be read: ${messageOf(cause)}.`, { cause });
  }
  return parseIdx(bytes, rank, path);
}

/** Opens Fashion-MNIST from `folder`, the environment's FASHION_MNIST, or where Debian's package puts it. */
export function openFashionMnist(folder: string, split: Split): ArrayDataset {
  const where = folder || process.env.FASHION_MNIST || DEBIAN;
  const prefix = split === "train" ? "train" : "t10k";
  const images = readIdx(where, `${prefix}-images-idx3-ubyte`, 3);
  const labels = readIdx(where, `${prefix}-labels-idx1-ubyte`, 1);
  const [count = 0, height = 0, width = 0] = images.shape;
  if (labels.shape[0] !== count) throw new DataError(`Fashion-MNIST in ${where}: ${count} images but ${labels.shape[0]} labels.`);
  const wrong = labels.data.findIndex((label) => label >= CLASSES.length);
  if (wrong >= 0)
    throw new DataError(`Fashion-MNIST in ${where}: label ${labels.data[wrong]} of image ${wrong} is not from 0 to 9.`);
  const pixels = sharedBytes(images.data.length);
  pixels.set(images.data);
  return new ArrayDataset({
    name: `fashion-mnist (${split})`,
    width,
    height,
    channels: 1,
    pixels,
    labels: sharedInts(labels.data),
    classes: CLASSES,
    normalization: { mean: [0.286], std: [0.353] },
  });
}
