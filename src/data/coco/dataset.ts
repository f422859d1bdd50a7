// Images with COCO annotations, opened: what the detection loader draws from and what found objects are compared with.
import { join } from "node:path";
import type { Dataset, DatasetSpec } from "../dataset.js";
import { type DecodeOptions, decodeFile } from "../decode.js";
import { BadSampleError } from "../errors.js";
import type { Pixels } from "../pixels.js";
import { StringTable } from "../strings.js";
import { placeOf } from "./notes.js";
import { polygonsMask } from "./polygon.js";
import { type MaskSize, maskArea, type Rle } from "./rle.js";
import { type CocoCategory, type CocoTable, SHAPE } from "./table.js";

/** Plain data, enough to open the dataset in another thread. */
export interface CocoPayload {
  readonly name: string;
  readonly root: string;
  readonly table: CocoTable;
  readonly notes: readonly string[];
  readonly decode: DecodeOptions;
  /** The images that were picked, by their numbers in the table; all where it is absent. */
  readonly rows?: Int32Array<SharedArrayBuffer>;
}

/** The outline of an object in pixels of its image. */
export type ObjectShape =
  | { readonly polygons: readonly Float64Array[] }
  | { readonly rle: Rle }
  /** Only a box. */
  | undefined;

/**
 * Images by number (0 to `length` - 1), and their objects by numbers of their own, which `objects` gives. Labels are 0 to K - 1 in the order of
 * the categories' ids.
 */
export class CocoDataset implements Dataset {
  static readonly kind = "coco";
  readonly name: string;
  readonly length: number;
  readonly notes: readonly string[];
  /** By label. */
  readonly categories: readonly CocoCategory[];
  readonly #payload: CocoPayload;
  readonly #table: CocoTable;
  readonly #files: StringTable;

  constructor(payload: CocoPayload) {
    this.#payload = payload;
    this.#table = payload.table;
    this.#files = new StringTable(payload.table.files);
    this.name = payload.name;
    this.notes = payload.notes;
    this.categories = payload.table.categories;
    this.length = payload.rows?.length ?? payload.table.imageIds.length;
  }

  get spec(): DatasetSpec {
    return { kind: CocoDataset.kind, payload: this.#payload };
  }

  /** An image has no class of its own. */
  label(): undefined {
    return undefined;
  }

  path(index: number): string {
    return join(this.#payload.root, this.#files.at(this.#row(index)));
  }

  /** The id of an image in the file. */
  imageId(index: number): number {
    return this.#table.imageIds[this.#row(index)]!;
  }

  /** Height and width of an image, as its annotations say. */
  size(index: number): MaskSize {
    const row = this.#row(index);
    return [this.#table.imageSizes[2 * row]!, this.#table.imageSizes[2 * row + 1]!];
  }

  /** The objects of an image, in the order of the file. */
  objects(index: number): number[] {
    const row = this.#row(index);
    const first = this.#table.firstObject[row]!;
    return Array.from({ length: this.#table.firstObject[row + 1]! - first }, (_, i) => first + i);
  }

  /** The id of an object in the file. */
  objectId(object: number): number {
    return this.#table.ids[object]!;
  }

  labelOf(object: number): number {
    return this.#table.labels[object]!;
  }

  /** x, y, width, height as in the file, wherever it lies. */
  box(object: number): [x: number, y: number, width: number, height: number] {
    return [...this.#table.boxes.subarray(4 * object, 4 * object + 4)] as [number, number, number, number];
  }

  isCrowd(object: number): boolean {
    return this.#table.crowd[object] !== 0;
  }

  /** The area in the file, by which COCO tells small from large; where the file has none, that of the mask or box. */
  area(object: number): number {
    const area = this.#table.areas[object]!;
    if (!Number.isNaN(area)) return area;
    const mask = this.mask(object);
    return mask ? maskArea(mask) : this.#table.boxes[4 * object + 2]! * this.#table.boxes[4 * object + 3]!;
  }

  shape(object: number): ObjectShape {
    const { shapes, firstPart, partCount, firstNumber, numbers } = this.#table;
    if (shapes[object] === SHAPE.none) return undefined;
    const first = firstPart[object]!;
    const parts = Array.from({ length: partCount[object]! }, (_, i) => {
      return numbers.subarray(firstNumber[first + i]!, firstNumber[first + i + 1]!);
    });
    if (shapes[object] === SHAPE.polygons) return { polygons: parts };
    return { rle: { size: this.#sizeOf(object), counts: Uint32Array.from(parts[0]!) } };
  }

  /** The mask of an object at its image's size, or undefined where there is only a box. */
  mask(object: number): Rle | undefined {
    const shape = this.shape(object);
    if (shape === undefined) return undefined;
    return "rle" in shape ? shape.rle : polygonsMask(shape.polygons, this.#sizeOf(object));
  }

  /** Whether the box of an object has an area in its image. */
  isInSight(object: number): boolean {
    const [height, width] = this.#sizeOf(object);
    const place = placeOf(this.#table.boxes.subarray(4 * object, 4 * object + 4), height, width);
    return place !== "empty" && place !== "outside";
  }

  /** Whether something can be learnt from an object: it is in sight and no crowd. */
  isUsable(object: number): boolean {
    return !this.isCrowd(object) && this.isInSight(object);
  }

  /**
   * The image. A bad sample where the file is damaged or missing, or not of the size that its annotations are for. Where the annotations are
   * for the image as it is stored, without the turn that its EXIF data asks for, it is not turned.
   */
  async read(index: number): Promise<Pixels> {
    const [height, width] = this.size(index);
    const fits = (image: Pixels): boolean => image.width === width && image.height === height;
    const path = this.path(index);
    const image = await decodeFile(path, this.#payload.decode);
    if (fits(image)) return image;
    if (image.width === height && image.height === width) {
      const stored = await decodeFile(path, { ...this.#payload.decode, orient: false });
      if (fits(stored)) return stored;
    }
    throw new BadSampleError(`it is ${image.width}x${image.height} px, but its annotations are for ${width}x${height}`);
  }

  /** Only these images, in this order; all categories stay. */
  pick(indices: ArrayLike<number>): CocoDataset {
    const rows = new Int32Array(new SharedArrayBuffer(indices.length * 4));
    for (let i = 0; i < indices.length; i++) rows[i] = this.#row(indices[i]!);
    return new CocoDataset({ ...this.#payload, name: `${this.name}, ${rows.length} of ${this.length}`, rows });
  }

  /** Only the images with an object that something can be learnt from. */
  withObjects(): CocoDataset {
    const all = Array.from({ length: this.length }, (_, i) => i);
    return this.pick(all.filter((i) => this.objects(i).some((object) => this.isUsable(object))));
  }

  #row(index: number): number {
    return this.#payload.rows ? this.#payload.rows[index]! : index;
  }

  /** The size of the image that an object is in. */
  #sizeOf(object: number): MaskSize {
    const { firstObject, imageSizes } = this.#table;
    let [low, high] = [0, firstObject.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (firstObject[middle]! <= object) low = middle;
      else high = middle;
    }
    return [imageSizes[2 * low]!, imageSizes[2 * low + 1]!];
  }
}
