// What is odd about annotations but no reason to refuse them, counted and told once.
import { type CocoTable, SHAPE } from "./table.js";

/** Boxes that reach outside their image by no more than this are rounding, not worth a word. */
const ROUNDING = 1;

/** How the box of an annotation lies in its image. */
export type BoxPlace = "inside" | "cut" | "outside" | "empty";

/** @param box x, y, width, height */
export function placeOf(box: ArrayLike<number>, height: number, width: number): BoxPlace {
  const [x, y, w, h] = box as unknown as [number, number, number, number];
  if (!(w > 0 && h > 0)) return "empty";
  if (x >= width || y >= height || x + w <= 0 || y + h <= 0) return "outside";
  const beyond = Math.max(-x, -y, x + w - width, y + h - height);
  return beyond > ROUNDING ? "cut" : "inside";
}

/** One sentence for each kind of oddity that there is. */
export function noticed(table: CocoTable, missing: number, firstMissing: string): string[] {
  const images = table.imageIds.length;
  const used = new Uint8Array(table.categories.length);
  const count = { inside: 0, cut: 0, outside: 0, empty: 0 };
  let [without, flat, crowds] = [0, 0, 0];
  for (let i = 0; i < images; i++) {
    const [height, width] = [table.imageSizes[2 * i]!, table.imageSizes[2 * i + 1]!];
    if (table.firstObject[i] === table.firstObject[i + 1]) without++;
    for (let a = table.firstObject[i]!; a < table.firstObject[i + 1]!; a++) {
      used[table.labels[a]!] = 1;
      count[placeOf(table.boxes.subarray(4 * a, 4 * a + 4), height, width)]++;
      if (table.shapes[a] === SHAPE.none) flat++;
      if (table.crowd[a]) crowds++;
    }
  }
  const unused = table.categories.filter((_, label) => !used[label]).map(({ name }) => name);
  const some = unused.length > 5 ? `${unused.slice(0, 5).join(", ")}, ...` : unused.join(", ");
  const notes: [count: number, text: string][] = [
    [missing, `${missing} of ${images} images are missing (${firstMissing}${missing > 1 ? ", ..." : ""}): skipped and counted`],
    [without, `${without} images have no objects`],
    [unused.length, `${unused.length} of ${used.length} categories have no objects: ${some}`],
    [crowds, `${crowds} objects are crowds: nothing is learnt from them, and what is found in them does not count against AP`],
    [count.cut, `${count.cut} boxes reach out of their image: cut at its edge for training`],
    [count.outside, `${count.outside} boxes lie outside of their image: left out of training`],
    [count.empty, `${count.empty} boxes have no width or no height: left out of training`],
    [flat, `${flat} objects have no mask: training takes their box for it`],
  ];
  return notes.filter(([count]) => count > 0).map(([, text]) => text);
}
