// COCO's images and annotations as columns in memory that threads share: the 860,000 objects of train2017 would be gigabytes as JavaScript
// objects, once more in every worker.
import type { StringTableData } from "../strings.js";

export interface CocoCategory {
  /** As in the file; results name it. */
  readonly id: number;
  readonly name: string;
  readonly supercategory?: string;
}

/** What the segmentation of an annotation is. */
export const SHAPE = { none: 0, polygons: 1, rle: 2 } as const;

type Floats = Float64Array<SharedArrayBuffer>;
type Ints = Int32Array<SharedArrayBuffer>;

/** Everything in an annotations file, checked; can be posted to a thread. */
export interface CocoTable {
  /** Sorted by id: the place in this list is the label. */
  readonly categories: readonly CocoCategory[];
  readonly imageIds: Floats;
  /** Height and width of image i at 2 * i. */
  readonly imageSizes: Ints;
  readonly files: StringTableData;
  /** Annotations firstObject[i] .. firstObject[i + 1] - 1 are those of image i, in the order of the file. */
  readonly firstObject: Ints;
  readonly ids: Floats;
  readonly labels: Ints;
  /** x, y, width, height of annotation a from 4 * a on, as in the file. */
  readonly boxes: Floats;
  readonly areas: Floats;
  readonly crowd: Uint8Array<SharedArrayBuffer>;
  /** One of SHAPE for each annotation. */
  readonly shapes: Uint8Array<SharedArrayBuffer>;
  /** Annotation a has partCount[a] parts from firstPart[a] on: its polygons, or the one list of run lengths. */
  readonly firstPart: Ints;
  readonly partCount: Ints;
  /** Numbers firstNumber[p] .. firstNumber[p + 1] - 1 of `numbers` are those of part p: x and y by turns, or run lengths. */
  readonly firstNumber: Floats;
  readonly numbers: Floats;
}
