// CIFAR-10 and CIFAR-100 in their "binary version": records of one label byte (CIFAR-100: coarse, then fine) and 3072 bytes, 32x32
// pixels as a red, a green and a blue plane.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ArrayDataset } from "./arrays.js";
import { type Split, sharedBytes, sharedInts } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import type { Normalization } from "./views.js";

interface Kind {
  readonly name: string;
  readonly folder: string;
  readonly page: string;
  readonly files: Readonly<Record<Split, readonly string[]>>;
  readonly names: string;
  readonly classes: number;
  /** Bytes before the pixels; the last of them is the label. */
  readonly labelBytes: number;
  readonly normalization: Normalization;
}

const kinds: Readonly<Record<10 | 100, Kind>> = {
  10: {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    page: "cifar-10-binary.tar.gz",
    files: { train: [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`), test: ["test_batch.bin"] },
    names: "batches.meta.txt",
    classes: 10,
    labelBytes: 1,
    normalization: { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] },
  },
  100: {
    name: "cifar100",
    folder: "cifar-100-binary",
    page: "cifar-100-binary.tar.gz",
    files: { train: ["train.bin"], test: ["test.bin"] },
    names: "fine_label_names.txt",
    classes: 100,
    labelBytes: 2,
    normalization: { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] },
  },
};

const PLANE = 32 * 32;

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new DataError(`${path} cannot be read: ${messageOf(cause)}.`, { cause });
  }
}

/** Opens CIFAR-10 or CIFAR-100 from the unpacked folder or the one above it. */
export function openCifar(which: 10 | 100, folder: string, split: Split): ArrayDataset {
  const kind = kinds[which];
  if (!folder) throw new DataError(`${kind.name} needs a folder: ${kind.name}:DIR, where ${kind.page} was unpacked.`);
  const files = kind.files[split];
  const root = [folder, join(folder, kind.folder)].find((path) => existsSync(join(path, files[0]!)));
  if (root === undefined) {
    throw new DataError(
      `${kind.name}: there is no ${files[0]} in ${folder} or its ${kind.folder}. The binary version is needed ` +
        `(${kind.page}); the Python and Matlab versions are other files.`,
    );
  }
  const record = kind.labelBytes + 3 * PLANE;
  const parts = files.map((file) => {
    const path = join(root, file);
    const bytes = read(path);
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new DataError(`${path} has ${bytes.length} bytes, not a multiple of ${record}; it is cut off or another format.`);
    }
    return { path, bytes };
  });
  const count = parts.reduce((sum, { bytes }) => sum + bytes.length / record, 0);
  const pixels = sharedBytes(count * 3 * PLANE);
  const labels = new Int32Array(count);
  let image = 0;
  for (const { path, bytes } of parts) {
    for (let at = 0; at < bytes.length; at += record, image++) {
      const label = bytes[at + kind.labelBytes - 1]!;
      if (label >= kind.classes) throw new DataError(`${path}: label ${label} at byte ${at} is not below ${kind.classes}.`);
      labels[image] = label;
      let to = image * 3 * PLANE;
      const red = at + kind.labelBytes;
      for (let i = red; i < red + PLANE; i++) {
        pixels[to++] = bytes[i]!;
        pixels[to++] = bytes[i + PLANE]!;
        pixels[to++] = bytes[i + 2 * PLANE]!;
      }
    }
  }
  return new ArrayDataset({
    name: `${kind.name} (${split})`,
    width: 32,
    height: 32,
    channels: 3,
    pixels,
    labels: sharedInts(labels),
    classes: classNames(join(root, kind.names), kind.classes),
    normalization: kind.normalization,
  });
}

/** The names beside the data, or the numbers where that file is missing or has other lines. */
function classNames(path: string, count: number): string[] {
  const names = existsSync(path) ? read(path).toString("utf8").split(/\r?\n/).filter(Boolean) : [];
  return names.length === count ? names : Array.from({ length: count }, (_, i) => String(i));
}
