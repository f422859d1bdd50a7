// Datasets that fit in memory as one array of equal images (Fashion-MNIST, CIFAR). The pixels lie in a SharedArrayBuffer, so worker
// threads read the same bytes instead of loading them again.
import type { Dataset, DatasetSpec } from "./dataset.js";
import { DataError } from "./errors.js";
import type { Pixels } from "./pixels.js";
import type { Normalization } from "./views.js";

/** What an array dataset consists of. All of it can be posted to a thread. */
export interface ArrayImages {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** All images, one after another, channels interleaved. */
  readonly pixels: Uint8Array<SharedArrayBuffer>;
  readonly labels?: Int32Array<SharedArrayBuffer>;
  readonly classes?: readonly string[];
  readonly normalization?: Normalization;
}

/** Equal-sized images in shared memory. Also for users who have their images as an array already. */
export class ArrayDataset implements Dataset {
  static readonly kind = "array";
  readonly name: string;
  readonly length: number;
  readonly classes?: readonly string[];
  readonly normalization?: Normalization;
  readonly channels: 1 | 3;
  readonly #images: ArrayImages;
  readonly #bytes: number;

  constructor(images: ArrayImages) {
    const { width, height, channels, pixels, labels } = images;
    this.#images = images;
    this.#bytes = width * height * channels;
    this.name = images.name;
    this.channels = channels;
    this.length = this.#bytes === 0 ? 0 : pixels.length / this.#bytes;
    if (!Number.isInteger(this.length)) {
      throw new DataError(
        `${images.name}: ${pixels.length} bytes are not a whole number of ${width}x${height}x${channels} images.`,
      );
    }
    if (labels && labels.length !== this.length) {
      throw new DataError(`${images.name}: ${labels.length} labels for ${this.length} images.`);
    }
    if (labels && images.classes) this.classes = images.classes;
    if (images.normalization) this.normalization = images.normalization;
  }

  get spec(): DatasetSpec {
    return { kind: ArrayDataset.kind, payload: this.#images };
  }

  label(index: number): number | undefined {
    return this.#images.labels?.[index];
  }

  path(index: number): string {
    return `${this.name}#${index}`;
  }

  read(index: number): Pixels {
    const { width, height, channels, pixels } = this.#images;
    return { width, height, channels, data: pixels.subarray(index * this.#bytes, (index + 1) * this.#bytes) };
  }
}
