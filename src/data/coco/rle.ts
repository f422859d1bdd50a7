// Masks as run lengths, COCO's form of them: pixels are counted down the columns, from the left column to the right, in runs that are outside and
// inside by turns, the first one outside (and 0 where the first pixel is inside). In JSON the counts are a list, or a string that packs them.
import { DataError } from "../errors.js";

/** Height and width in pixels. */
export type MaskSize = readonly [height: number, width: number];

/** A mask as run lengths down the columns: outside, inside, outside, ... Their sum is height * width. */
export interface Rle {
  readonly size: MaskSize;
  readonly counts: Uint32Array;
}

/** The same in JSON: `counts` packed in a string (COCO's "compressed" form), or plain. */
export interface RleJson {
  readonly size: readonly number[];
  readonly counts: string | readonly number[];
}

/** Positions at which a mask changes, in the making. One for all: nothing here is asynchronous. */
let changes = new Float64Array(1024);

/** Room for `count` changes. What is there is kept. */
export function changesFor(count: number): Float64Array {
  if (changes.length < count) {
    const grown = new Float64Array(Math.max(count, 2 * changes.length));
    grown.set(changes);
    changes = grown;
  }
  return changes;
}

/**
 * A mask from the positions x * height + y, in order, before which it changes from outside to inside or back. Two changes at one position
 * cancel; one at the end is none.
 */
export function rleOfChanges(positions: Float64Array, count: number, size: MaskSize): Rle {
  const total = size[0] * size[1];
  let kept = 0;
  for (let i = 0; i < count && positions[i]! < total; i++) {
    if (kept > 0 && positions[kept - 1] === positions[i]) kept--;
    else positions[kept++] = positions[i]!;
  }
  const counts = new Uint32Array(kept + 1);
  let last = 0;
  for (let i = 0; i < kept; i++) {
    counts[i] = positions[i]! - last;
    last = positions[i]!;
  }
  counts[kept] = total - last;
  return { size, counts };
}

/** Where a small mask lies in its image, and the size of that image. What reaches outside is cut off. */
export interface MaskPlace {
  readonly top: number;
  readonly left: number;
  readonly size: MaskSize;
}

/**
 * Run lengths of a mask given by rows, `mask[y * width + x]`; every value but 0 is inside.
 *
 * @param place where the mask is only a window in a larger image, outside which there is nothing: the cost is that of the window
 */
export function encodeMask(mask: ArrayLike<number>, size: MaskSize, place: MaskPlace = { top: 0, left: 0, size }): Rle {
  const [rows, columns] = checkedSize(size);
  if (mask.length !== rows * columns) {
    throw new DataError(`A mask of ${rows} x ${columns} pixels has ${mask.length} values; expected ${rows * columns}.`);
  }
  const [height, width] = checkedSize(place.size);
  const { top, left } = place;
  if (!Number.isInteger(top) || !Number.isInteger(left)) {
    throw new DataError(`A mask is placed at row ${top} and column ${left}; expected whole numbers.`);
  }
  const [y0, y1] = [Math.max(0, -top), Math.min(rows, height - top)];
  const [x0, x1] = [Math.max(0, -left), Math.min(columns, width - left)];
  let [count, inside, end] = [0, false, 0];
  if (y1 > y0) {
    for (let x = x0; x < x1; x++) {
      const to = changesFor(count + y1 - y0 + 2);
      const start = (left + x) * height + top;
      if (inside && start + y0 > end) {
        to[count++] = end;
        inside = false;
      }
      for (let y = y0, at = y0 * columns + x; y < y1; y++, at += columns) {
        if ((mask[at] !== 0) === inside) continue;
        to[count++] = start + y;
        inside = !inside;
      }
      end = start + y1;
    }
  }
  if (inside) changesFor(count + 1)[count++] = end;
  return rleOfChanges(changes, count, [height, width]);
}

/** The mask by rows, 0 or 1: `mask[y * width + x]`. */
export function decodeMask(rle: Rle): Uint8Array {
  const mask = new Uint8Array(rle.size[0] * rle.size[1]);
  paintMask(rle, mask, 1);
  return mask;
}

/** Sets `value` where the mask is inside; `target` has the mask's size, by rows from `offset` on. */
export function paintMask({ size, counts }: Rle, target: Uint8Array, value = 1, offset = 0): void {
  const [height, width] = size;
  let position = 0;
  for (let i = 0; i < counts.length; i++) {
    const end = position + counts[i]!;
    if (i % 2 === 1) {
      let x = Math.floor(position / height);
      let y = position - x * height;
      for (let p = position; p < end; p++) {
        target[offset + y * width + x] = value;
        if (++y === height) {
          y = 0;
          x++;
        }
      }
    }
    position = end;
  }
}

/** Pixels inside. */
export function maskArea({ counts }: Rle): number {
  let area = 0;
  for (let i = 1; i < counts.length; i += 2) area += counts[i]!;
  return area;
}

/** The smallest box around the mask as [x, y, width, height] in whole pixels; [0, 0, 0, 0] of an empty mask. */
export function maskBox({ size, counts }: Rle): [x: number, y: number, width: number, height: number] {
  const height = size[0];
  let [left, right, top, bottom] = [Number.POSITIVE_INFINITY, -1, height, -1];
  let position = 0;
  for (let i = 0; i < counts.length; i++) {
    const length = counts[i]!;
    if (i % 2 === 1 && length > 0) {
      const last = position + length - 1;
      const [x0, x1] = [Math.floor(position / height), Math.floor(last / height)];
      const whole = x1 > x0;
      left = Math.min(left, x0);
      right = Math.max(right, x1);
      top = whole ? 0 : Math.min(top, position - x0 * height);
      bottom = whole ? height - 1 : Math.max(bottom, last - x1 * height);
    }
    position += length;
  }
  return right < 0 ? [0, 0, 0, 0] : [left, top, right - left + 1, bottom - top + 1];
}

/** Pixels inside both of two masks of one size. */
export function sharedArea(a: Rle, b: Rle): number {
  const [ca, cb] = [a.counts, b.counts];
  let [i, j, shared, start] = [0, 0, 0, 0];
  let [endA, endB] = [ca[0] ?? 0, cb[0] ?? 0];
  while (i < ca.length && j < cb.length) {
    const end = Math.min(endA, endB);
    if ((i & j & 1) === 1) shared += end - start;
    start = end;
    if (endA === end) endA += ca[++i] ?? 0;
    if (endB === end) endB += cb[++j] ?? 0;
  }
  return shared;
}

/** The union of masks of one size, or what all of them share. */
export function mergeMasks(masks: readonly Rle[], how: "union" | "intersection" = "union"): Rle {
  const first = masks[0];
  if (!first) throw new DataError("mergeMasks got no masks; give at least one.");
  return masks.slice(1).reduce((whole, each) => mergeTwo(whole, each, how === "union" ? 1 : 2), first);
}

/** Inside where at least `needed` of two masks are. */
function mergeTwo(a: Rle, b: Rle, needed: 1 | 2): Rle {
  if (a.size[0] !== b.size[0] || a.size[1] !== b.size[1]) {
    throw new DataError(`Masks of ${a.size.join(" x ")} and ${b.size.join(" x ")} pixels cannot be merged; expected one size.`);
  }
  const [ca, cb] = [a.counts, b.counts];
  const to = changesFor(ca.length + cb.length);
  let [i, j, count, inside] = [0, 0, 0, false];
  let [endA, endB] = [ca[0] ?? 0, cb[0] ?? 0];
  while (i < ca.length && j < cb.length) {
    const end = Math.min(endA, endB);
    if (endA === end) endA += ca[++i] ?? 0;
    if (endB === end) endB += cb[++j] ?? 0;
    // Several runs of length 0 may end here: what counts is what holds after them.
    if ((i < ca.length && endA === end) || (j < cb.length && endB === end)) continue;
    const now = (i & 1) + (j & 1) >= needed;
    if (now === inside) continue;
    to[count++] = end;
    inside = now;
  }
  return rleOfChanges(to, count, a.size);
}

/**
 * COCO's string of run lengths: from the fourth on, the difference to the count two before; each in groups of five bits from
 * the lowest, a sixth bit says that more follow, and 48 is added to make a letter of it.
 */
export function packCounts(counts: Uint32Array): string {
  let text = "";
  for (let i = 0; i < counts.length; i++) {
    let rest = i > 2 ? counts[i]! - counts[i - 2]! : counts[i]!;
    for (;;) {
      const group = rest & 31;
      rest >>= 5;
      // The highest group's fifth bit is the sign.
      const done = (group & 16) === 0 ? rest === 0 : rest === -1;
      text += String.fromCharCode(48 + (done ? group : group | 32));
      if (done) break;
    }
  }
  return text;
}

/** The run lengths in a string of `packCounts`. */
export function unpackCounts(text: string): Uint32Array {
  // A count takes at least one letter.
  const counts = new Uint32Array(text.length);
  let length = 0;
  for (let at = 0; at < text.length; ) {
    let [value, shift, letter] = [0, 0, 0];
    do {
      if (at >= text.length) throw new DataError("A packed mask is cut off: its string ends within a number.");
      letter = text.charCodeAt(at++) - 48;
      if (letter < 0 || letter > 63 || shift > 30) {
        throw new DataError(`A packed mask is damaged at letter ${at} of its string.`);
      }
      value |= (letter & 31) << shift;
      shift += 5;
    } while ((letter & 32) !== 0);
    if ((letter & 16) !== 0 && shift < 32) value |= -1 << shift;
    if (length > 2) value += counts[length - 2]!;
    if (value < 0) throw new DataError(`A packed mask is damaged: its run ${length} would be ${value} pixels long.`);
    counts[length++] = value;
  }
  return counts.slice(0, length);
}

/** The mask in COCO's compressed JSON form. */
export function toRleJson({ size, counts }: Rle): { size: [number, number]; counts: string } {
  return { size: [size[0], size[1]], counts: packCounts(counts) };
}

/** A mask from JSON (or one that is a mask already), checked: whole numbers, and runs that fill the size. */
export function fromRleJson(json: RleJson | Rle): Rle {
  const size = checkedSize(json.size);
  const given = json.counts;
  const counts = typeof given === "string" ? unpackCounts(given) : given instanceof Uint32Array ? given : plainCounts(given);
  let sum = 0;
  for (let i = 0; i < counts.length; i++) sum += counts[i]!;
  if (sum !== size[0] * size[1]) {
    throw new DataError(`The runs of a mask of ${size[0]} x ${size[1]} pixels add up to ${sum}; expected ${size[0] * size[1]}.`);
  }
  return { size, counts };
}

function plainCounts(counts: readonly number[]): Uint32Array {
  if (!Array.isArray(counts)) throw new DataError("A mask's counts are neither a string nor a list of numbers.");
  const wrong = counts.findIndex((count) => !Number.isInteger(count) || count < 0 || count > 0xffffffff);
  if (wrong >= 0) throw new DataError(`Run ${wrong} of a mask is ${JSON.stringify(counts[wrong])}; expected a whole number.`);
  return new Uint32Array(counts);
}

function checkedSize(size: readonly number[]): MaskSize {
  const right = Array.isArray(size) && size.length === 2 && size.every((side) => Number.isInteger(side) && side > 0);
  const [height, width] = size as [number, number];
  if (!right || height * width > 0x7fffffff) {
    throw new DataError(`A mask's size is ${JSON.stringify(size)}; expected [height, width] in whole pixels, at least 1.`);
  }
  return [height, width];
}
