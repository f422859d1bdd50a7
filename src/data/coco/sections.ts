// The sections of an annotations file ("images", "categories", "annotations"), checked and put in columns.
import { DataError, messageOf } from "../errors.js";
import { StringTable } from "../strings.js";
import type { JsonFile } from "./json-file.js";
import { Numbers } from "./numbers.js";
import { fromRleJson, type RleJson } from "./rle.js";
import { type CocoCategory, type CocoTable, SHAPE } from "./table.js";

/** So many problems are told one by one. */
const TOLD = 20;

/** Coordinates beyond this many pixels are taken for a mistake. */
const FAR = 1_000_000;

type Fields = Readonly<Record<string, unknown>>;

class Problems {
  readonly #file: JsonFile;
  readonly #told: string[] = [];
  #count = 0;

  constructor(file: JsonFile) {
    this.#file = file;
  }

  add(offset: number, what: string): void {
    this.#count++;
    if (this.#told.length < TOLD) this.#told.push(`${this.#file.place(offset)}: ${what}.`);
  }

  /** Throws what has been found, if anything. */
  tell(): void {
    if (this.#count === 0) return;
    const rest = this.#count > TOLD ? [`... and ${this.#count - TOLD} more problems.`] : [];
    throw new DataError([...this.#told, ...rest].join("\n"));
  }
}

/** Reads the whole file. @throws DataError with every problem */
export function tableOf(file: JsonFile): CocoTable {
  const problems = new Problems(file);
  const images = new Images(problems);
  const categories = new Categories(problems);
  const objects = new Objects(problems);
  const sections = new Map<string, { add(value: Fields, offset: number, name: string): void }>([
    ["images", images],
    ["categories", categories],
    ["annotations", objects],
  ]);
  const seen = new Set<string>();
  for (const { key, index, value, offset } of file.parts()) {
    const section = sections.get(key);
    if (key === "")
      throw new DataError(`${file.path} is a list; expected an object with "images", "annotations" and "categories".`);
    if (!section) continue;
    seen.add(key);
    if (index === undefined) {
      if (!Array.isArray(value)) problems.add(offset, `"${key}" is ${shown(value)}; expected a list`);
      else if (key !== "annotations") problems.add(offset, `"${key}" is an empty list; expected at least one`);
    } else if (!isFields(value)) problems.add(offset, `${key}[${index}] is ${shown(value)}; expected an object`);
    else section.add(value, offset, `${key}[${index}]${value.id === undefined ? "" : ` (id ${shown(value.id)})`}`);
  }
  for (const key of sections.keys()) {
    const format = 'expected COCO\'s format for instances, with "images", "annotations" and "categories"';
    if (!seen.has(key)) problems.add(0, `there is no "${key}"; ${format}`);
  }
  const labels = categories.labels();
  objects.resolve(images, labels);
  problems.tell();
  return { categories: categories.sorted(), ...images.columns(), ...objects.columns(images.count) };
}

class Images {
  readonly numbers = new Map<number, number>();
  readonly ids = new Numbers();
  readonly sizes = new Numbers();
  readonly #files: string[] = [];
  readonly #problems: Problems;

  constructor(problems: Problems) {
    this.#problems = problems;
  }

  get count(): number {
    return this.#files.length;
  }

  add({ id, file_name: name, width, height }: Fields, offset: number, where: string): void {
    const wrong = (what: string): void => this.#problems.add(offset, `${where}.${what}`);
    if (!isWhole(id)) {
      wrong(`id is ${shown(id)}; expected a whole number`);
      return;
    }
    if (this.numbers.has(id)) {
      wrong(`id is that of images[${this.numbers.get(id)}], too; expected each id once`);
      return;
    }
    if (typeof name !== "string" || name === "")
      wrong(`file_name is ${shown(name)}; expected a path relative to the images' folder`);
    if (!isSide(width)) wrong(`width is ${shown(width)}; expected whole pixels, at least 1`);
    if (!isSide(height)) wrong(`height is ${shown(height)}; expected whole pixels, at least 1`);
    this.numbers.set(id, this.count);
    this.ids.push(id);
    this.sizes.push(Number(height));
    this.sizes.push(Number(width));
    this.#files.push(String(name));
  }

  columns() {
    return {
      imageIds: this.ids.shared(),
      imageSizes: ints(this.sizes.slice(0, this.sizes.length)),
      files: StringTable.from(this.#files).data,
    };
  }
}

class Categories {
  readonly #all = new Map<number, CocoCategory>();
  readonly #problems: Problems;

  constructor(problems: Problems) {
    this.#problems = problems;
  }

  add({ id, name, supercategory }: Fields, offset: number, where: string): void {
    const wrong = (what: string): void => this.#problems.add(offset, `${where}.${what}`);
    if (!isWhole(id)) {
      wrong(`id is ${shown(id)}; expected a whole number`);
      return;
    }
    if (this.#all.has(id)) {
      wrong(`id is that of "${this.#all.get(id)!.name}", too; expected each id once`);
      return;
    }
    if (typeof name !== "string" || name === "") {
      wrong(`name is ${shown(name)}; expected a name`);
      return;
    }
    this.#all.set(id, { id, name, ...(typeof supercategory === "string" && { supercategory }) });
  }

  sorted(): CocoCategory[] {
    return [...this.#all.values()].sort((a, b) => a.id - b.id);
  }

  /** The label of each category id. */
  labels(): Map<number, number> {
    return new Map(this.sorted().map(({ id }, label) => [id, label]));
  }
}

/** Annotations in the order of the file; their images and categories may come after them. */
class Objects {
  readonly #problems: Problems;
  readonly #numberOf = new Map<number, number>();
  readonly #offsets = new Numbers();
  readonly #images = new Numbers();
  readonly #categories = new Numbers();
  readonly #ids = new Numbers();
  readonly #boxes = new Numbers();
  readonly #areas = new Numbers();
  readonly #crowd = new Numbers();
  readonly #shapes = new Numbers();
  readonly #firstPart = new Numbers();
  readonly #partCount = new Numbers();
  readonly #firstNumber = new Numbers();
  readonly #numbers = new Numbers();
  /** Sizes of run-length masks, two for each; compared with their images' when those are known. */
  readonly #rleSizes = new Numbers();

  constructor(problems: Problems) {
    this.#problems = problems;
  }

  add(fields: Fields, offset: number, where: string): void {
    const wrong = (what: string): void => this.#problems.add(offset, `${where}.${what}`);
    const { id, image_id: image, category_id: category, bbox, area, iscrowd: crowd = 0, segmentation } = fields;
    if (!isWhole(id)) {
      wrong(`id is ${shown(id)}; expected a whole number`);
      return;
    }
    const before = this.#numberOf.get(id);
    if (before !== undefined) {
      wrong(`id is that of annotations[${before}], too; expected each id once`);
      return;
    }
    this.#numberOf.set(id, this.#ids.length);
    if (!isBox(bbox)) wrong(`bbox is ${shown(bbox)}; expected [x, y, width, height] in pixels, width and height at least 0`);
    if (crowd !== 0 && crowd !== 1 && typeof crowd !== "boolean") wrong(`iscrowd is ${shown(crowd)}; expected 0 or 1`);
    if (area !== undefined && !isCoordinate(area, Number.MAX_VALUE)) wrong(`area is ${shown(area)}; expected pixels, at least 0`);
    this.#offsets.push(offset);
    this.#images.push(isWhole(image) ? image : Number.NaN);
    this.#categories.push(isWhole(category) ? category : Number.NaN);
    if (!isWhole(image)) wrong(`image_id is ${shown(image)}; expected the id of an image`);
    if (!isWhole(category)) wrong(`category_id is ${shown(category)}; expected the id of a category`);
    this.#ids.push(id);
    this.#boxes.pushAll(isBox(bbox) ? bbox : [0, 0, 0, 0]);
    this.#areas.push(typeof area === "number" ? area : Number.NaN);
    this.#crowd.push(Number(crowd));
    this.#firstPart.push(this.#firstNumber.length);
    try {
      this.#shapes.push(this.#shape(segmentation));
    } catch (error) {
      this.#shapes.push(SHAPE.none);
      wrong(messageOf(error));
    }
    this.#partCount.push(this.#firstNumber.length - this.#firstPart.at(this.#firstPart.length - 1));
  }

  /** Takes over the segmentation and returns what it is. Throws what is wrong with it. */
  #shape(given: unknown): number {
    if (given === undefined || given === null) return SHAPE.none;
    const expected = 'expected polygons [[x, y, x, y, x, y, ...], ...] or {"size": [height, width], "counts": ...}';
    if (!Array.isArray(given)) {
      if (!isFields(given)) throw new DataError(`segmentation is ${shown(given)}; ${expected}`);
      let rle: ReturnType<typeof fromRleJson>;
      try {
        rle = fromRleJson(given as unknown as RleJson);
      } catch (error) {
        throw new DataError(`segmentation: ${messageOf(error).replace(/\.$/, "")}`);
      }
      this.#part(rle.counts);
      this.#rleSizes.pushAll([this.#shapes.length, ...rle.size]);
      return SHAPE.rle;
    }
    let kept = 0;
    for (const [i, points] of given.entries()) {
      if (!Array.isArray(points)) throw new DataError(`segmentation[${i}] is ${shown(points)}; ${expected}`);
      if (points.length % 2 === 1)
        throw new DataError(`segmentation[${i}] has ${points.length} numbers; expected pairs of x and y`);
      const bad = points.findIndex((point) => !isCoordinate(point, FAR, -FAR));
      if (bad >= 0) throw new DataError(`segmentation[${i}][${bad}] is ${shown(points[bad])}; expected pixels`);
      // A point or a line has no inside.
      if (points.length < 6) continue;
      this.#part(points as number[]);
      kept++;
    }
    return kept > 0 ? SHAPE.polygons : SHAPE.none;
  }

  #part(numbers: ArrayLike<number>): void {
    this.#firstNumber.push(this.#numbers.length);
    this.#numbers.pushAll(numbers);
  }

  /** Replaces ids of images and categories by their numbers, and compares the sizes of masks with their images'. */
  resolve(images: Images, labels: ReadonlyMap<number, number>): void {
    const where = (i: number): string => `annotations[${i}] (id ${this.#ids.at(i)})`;
    for (const [of, name, known] of [
      [this.#images, "image_id", images.numbers] as const,
      [this.#categories, "category_id", labels] as const,
    ]) {
      const values = of.slice(0, of.length);
      for (let i = 0; i < values.length; i++) {
        const id = values[i]!;
        if (Number.isNaN(id)) continue;
        const number = known.get(id);
        if (number === undefined) {
          const what = name === "image_id" ? "no image has that id" : `known are ${listed([...known.keys()])}`;
          this.#problems.add(this.#offsets.at(i), `${where(i)}.${name} is ${id}; ${what}`);
          values[i] = Number.NaN;
        } else values[i] = number;
      }
    }
    for (let r = 0; r < this.#rleSizes.length; r += 3) {
      const [i, height, width] = this.#rleSizes.slice(r, r + 3) as unknown as [number, number, number];
      const image = this.#images.at(i);
      if (Number.isNaN(image)) continue;
      const [h, w] = images.sizes.slice(2 * image, 2 * image + 2) as unknown as [number, number];
      if (h === height && w === width) continue;
      const what = `segmentation.size is [${height}, ${width}], but its image (id ${images.ids.at(image)}) has height ${h} and width ${w}`;
      this.#problems.add(this.#offsets.at(i), `${where(i)}.${what}`);
    }
  }

  /** The columns, sorted by image; within an image the order of the file. */
  columns(imageCount: number) {
    const count = this.#ids.length;
    const firstObject = ints(new Int32Array(imageCount + 1));
    for (let i = 0; i < count; i++) firstObject[this.#images.at(i) + 1]!++;
    for (let i = 0; i < imageCount; i++) firstObject[i + 1]! += firstObject[i]!;
    const next = firstObject.slice();
    const order = new Int32Array(count);
    for (let i = 0; i < count; i++) order[next[this.#images.at(i)]!++] = i;

    const sorted = (column: Numbers): number[] => Array.from(order, (i) => column.at(i));
    const boxes = floats(new Float64Array(4 * count));
    for (const [to, i] of order.entries()) boxes.set(this.#boxes.slice(4 * i, 4 * i + 4), 4 * to);
    this.#firstNumber.push(this.#numbers.length);
    return {
      firstObject,
      ids: floats(sorted(this.#ids)),
      labels: ints(sorted(this.#categories)),
      boxes,
      areas: floats(sorted(this.#areas)),
      crowd: bytes(sorted(this.#crowd)),
      shapes: bytes(sorted(this.#shapes)),
      firstPart: ints(sorted(this.#firstPart)),
      partCount: ints(sorted(this.#partCount)),
      firstNumber: this.#firstNumber.shared(),
      numbers: this.#numbers.shared(),
    };
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWhole(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value);
}

function isSide(value: unknown): value is number {
  return isWhole(value) && value > 0 && value < FAR;
}

function isCoordinate(value: unknown, most: number, least = 0): value is number {
  return typeof value === "number" && value >= least && value <= most;
}

function isBox(value: unknown): value is [number, number, number, number] {
  if (!Array.isArray(value) || value.length !== 4) return false;
  return value.every((each, i) => isCoordinate(each, FAR, i < 2 ? -FAR : 0));
}

/** A value as it is in the file, cut short. */
function shown(value: unknown): string {
  const text = value === undefined ? "missing" : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function listed(ids: readonly number[]): string {
  const sorted = [...ids].sort((a, b) => a - b);
  return sorted.length > 10 ? `${sorted.slice(0, 5).join(", ")}, ... ${sorted.at(-1)} (${sorted.length} ids)` : sorted.join(", ");
}

function ints(values: ArrayLike<number>): Int32Array<SharedArrayBuffer> {
  const shared = new Int32Array(new SharedArrayBuffer(values.length * 4));
  shared.set(values);
  return shared;
}

function floats(values: ArrayLike<number>): Float64Array<SharedArrayBuffer> {
  const shared = new Float64Array(new SharedArrayBuffer(values.length * 8));
  shared.set(values);
  return shared;
}

function bytes(values: ArrayLike<number>): Uint8Array<SharedArrayBuffer> {
  const shared = new Uint8Array(new SharedArrayBuffer(values.length));
  shared.set(values);
  return shared;
}
