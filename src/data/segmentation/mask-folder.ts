// Images beside masks: files of both by number, read together.
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset, DatasetSpec } from "../dataset.js";
import { type DecodeOptions, decodeFile } from "../decode.js";
import { BadSampleError, DataError, messageOf } from "../errors.js";
import type { Pixels } from "../pixels.js";
import { StringTable, type StringTableData } from "../strings.js";
import { decodeIndexPng, IndexPngError } from "./index-png.js";
import { type LabelMap, mapLabels } from "./label-map.js";

/** A mask that says something wrong of its image. Not a bad sample to be skipped: the truth itself cannot be trusted. */
export class MaskError extends DataError {
  /** What is wrong, without the mask's path. */
  readonly reason: string;
  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`);
    this.reason = reason;
  }
}

export interface MaskFolderPayload {
  readonly name: string;
  readonly imageRoot: string;
  readonly maskRoot: string;
  readonly images: StringTableData;
  readonly masks: StringTableData;
  readonly map: LabelMap;
  readonly decode: DecodeOptions;
}

export class MaskFolderDataset implements Dataset {
  static readonly kind = "mask-folder";
  readonly name: string;
  readonly length: number;
  readonly pixelClasses: readonly string[];
  readonly #payload: MaskFolderPayload;
  readonly #images: StringTable;
  readonly #masks: StringTable;

  constructor(payload: MaskFolderPayload) {
    this.#payload = payload;
    this.#images = new StringTable(payload.images);
    this.#masks = new StringTable(payload.masks);
    this.name = payload.name;
    this.length = this.#images.length;
    this.pixelClasses = payload.map.classes;
  }

  get spec(): DatasetSpec {
    return { kind: MaskFolderDataset.kind, payload: this.#payload };
  }

  /** The classes are of pixels, not of images. */
  label(): undefined {
    return undefined;
  }

  path(index: number): string {
    return join(this.#payload.imageRoot, this.#images.at(index));
  }

  maskPath(index: number): string {
    return join(this.#payload.maskRoot, this.#masks.at(index));
  }

  async read(index: number): Promise<Pixels> {
    const [image, labels] = await Promise.all([decodeFile(this.path(index), this.#payload.decode), this.#labels(index)]);
    if (labels.width !== image.width || labels.height !== image.height) {
      throw new MaskError(
        this.maskPath(index),
        `the mask is ${labels.width}x${labels.height} px, but its image ${this.path(index)} is ${image.width}x${image.height}; expected the same size`,
      );
    }
    return { ...image, labels: labels.data };
  }

  async #labels(index: number): Promise<{ width: number; height: number; data: Uint8Array }> {
    const path = this.maskPath(index);
    const { map } = this.#payload;
    const { width, height, data } = await readMask(path);
    const { labels, unknown } = mapLabels(data, map);
    if (unknown < 0) return { width, height, data: labels };
    const place = `column ${unknown % width}, row ${Math.floor(unknown / width)}`;
    throw new MaskError(
      path,
      `the number ${data[unknown]} at ${place} is no class; expected one of the ${map.classes.length} classes, or 255 for none`,
    );
  }
}

async function readMask(path: string) {
  const bytes = await readFile(path).catch(async (cause: NodeJS.ErrnoException) => {
    const missing = cause.code === "ENOENT" && !(await stat(path).catch(() => undefined));
    throw new MaskError(path, missing ? "there is no such mask" : messageOf(cause));
  });
  try {
    return decodeIndexPng(bytes);
  } catch (error) {
    if (error instanceof IndexPngError) throw new MaskError(path, `the mask cannot be read: ${error.message}`);
    throw error;
  }
}

/** True for what a check of a dataset lists as bad, a mask that is wrong too. */
export const isBadSample = (error: unknown): error is BadSampleError | MaskError =>
  error instanceof BadSampleError || error instanceof MaskError;
