// Counts of pairs as a matrix: which class (row) was taken for which (column). The colour of a cell is its share of the row, so that classes of
// few images are as visible as those of many; by the square root, so that rare confusions are seen at all.
import { ink, pale } from "./chart.js";
import { DrawError } from "./errors.js";
import { blank, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";
import { niceTicks } from "./ticks.js";

export interface MatrixOptions {
  /** Counts, rows from the top; as many columns as rows. */
  counts: readonly (readonly number[])[];
  /** Of rows and columns alike. They are written where there are no more than 60. */
  names: readonly string[];
  title?: string;
  /** What rows and columns are; default none. */
  rowLabel?: string;
  columnLabel?: string;
}

/** Above so many, names would be a picture of their own. */
const NAMED = 60;
/** Pixels that the cells of many classes take, and pixels of the smallest that an eye still sees; above 250 classes, several share a cell. */
const SIDE = 1000;
const SMALLEST = 4;
const MARGIN = 14;
const LINE = textHeight() + 6;
const KEY = 16;

/** A matrix of counts. Up to 60 classes have names, and counts where these fit in; more are heat alone, above 250 several a cell. */
export function matrixPicture(options: MatrixOptions): RgbImage {
  check(options);
  const { names, title, rowLabel = "", columnLabel = "" } = options;
  const named = names.length <= NAMED;
  const { counts, each } = pooled(options.counts);
  const largest = counts.reduce((most, row) => row.reduce((a, b) => Math.max(a, b), most), 0);
  const cell = cellSize(counts.length, String(largest).length);
  const side = counts.length * cell;
  const labels = named ? Math.min(240, Math.max(...names.map((name) => textWidth(name)))) : 0;
  const numbers = textWidth(String(names.length));
  const head = MARGIN + (title ? LINE + 6 : 0);
  const left = MARGIN + LINE + (named ? labels : numbers) + 8;
  const top = head + LINE + (named ? labels : textHeight()) + 8;
  const image = blank(Math.max(left + side + MARGIN + KEY + 8 + textWidth("100 %") + MARGIN, 420), top + side + MARGIN);
  if (title) drawText(image, fitText(title, image.width - 2 * MARGIN), MARGIN, MARGIN, { color: ink });
  const words = each > 1 ? `${columnLabel} (${each} classes a cell)`.trim() : columnLabel;
  drawText(image, words, left + side / 2, head, { align: "center", color: ink });
  drawText(image, rowLabel, MARGIN, top + side / 2, { align: "center", upwards: true, color: ink });
  const sums = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  for (const [r, row] of counts.entries()) {
    for (const [c, count] of row.entries()) {
      const share = sums[r] === 0 ? 0 : count / sums[r]!;
      fillRect(image, left + c * cell, top + r * cell, cell, cell, sums[r] === 0 ? pale : shadeOf(share));
      if (!named || cell < textHeight() + 6 || count === 0) continue;
      const color: Color = share > 0.35 ? [255, 255, 255] : ink;
      const y = top + r * cell + ((cell - 7 * 2) >> 1);
      drawText(image, String(count), left + c * cell + cell / 2, y, { align: "center", color });
    }
  }
  drawFrame(image, left, top, side);
  for (const [at, label] of named ? names.entries() : ticksOf(names.length)) {
    const middle = Math.round((at / each + (named ? 0.5 : 0)) * cell);
    const text = named ? fitText(label, labels) : label;
    drawText(image, text, left - 6, top + middle - 7, { align: "right", color: ink });
    if (named) drawText(image, text, left + middle - 7, top - 6, { upwards: true, color: ink });
    else drawText(image, text, left + middle, top - 6 - textHeight(), { align: "center", color: ink });
  }
  drawKey(image, left + side + MARGIN, top, Math.min(side, 320));
  return image;
}

/** White, over blue, to nearly black. */
function shadeOf(share: number): Color {
  const at = Math.sqrt(share);
  const [from, to, t]: [Color, Color, number] =
    at < 0.6 ? [[255, 255, 255], [66, 146, 198], at / 0.6] : [[66, 146, 198], [8, 32, 82], (at - 0.6) / 0.4];
  return from.map((value, c) => Math.round(value + (to[c]! - value) * t)) as unknown as Color;
}

/** Room for the largest count, or for the names, or what is there. */
function cellSize(count: number, digits: number): number {
  const text = Math.max(textHeight() + 8, textWidth("0".repeat(digits)) + 8);
  if (count <= NAMED) return count * text <= 1.4 * SIDE ? Math.max(text, 30) : textHeight() + 2;
  return Math.floor(SIDE / count);
}

/** Several classes a cell where cells would be too small to see. */
function pooled(counts: MatrixOptions["counts"]): { counts: readonly (readonly number[])[]; each: number } {
  const each = Math.ceil((counts.length * SMALLEST) / SIDE);
  if (each === 1) return { counts, each };
  const size = Math.ceil(counts.length / each);
  const sums = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (const [r, row] of counts.entries()) {
    for (const [c, count] of row.entries()) sums[Math.floor(r / each)]![Math.floor(c / each)]! += count;
  }
  return { counts: sums, each };
}

/** Round class numbers. */
function ticksOf(count: number): [number, string][] {
  return niceTicks(0, count - 1, 6).flatMap((at) => (Number.isInteger(at) ? [[at, String(at)] as [number, string]] : []));
}

function drawFrame(image: RgbImage, left: number, top: number, side: number): void {
  for (const [x, y, width, height] of [
    [-1, -1, side + 2, 1],
    [-1, side, side + 2, 1],
    [-1, -1, 1, side + 2],
    [side, -1, 1, side + 2],
  ] as const) {
    fillRect(image, left + x, top + y, width, height, ink);
  }
}

/** What the colours mean: shares of a row. */
function drawKey(image: RgbImage, left: number, top: number, height: number): void {
  for (let y = 0; y < height; y++) fillRect(image, left, top + y, KEY, 1, shadeOf((1 - y / (height - 1)) ** 2));
  for (const share of [1, 0.5, 0.25, 0.1, 0.01, 0]) {
    const y = Math.round((1 - Math.sqrt(share)) * (height - 1));
    if (height < 150 && share !== 0 && share !== 1) continue;
    drawText(image, `${100 * share} %`, left + KEY + 8, top + y - (share === 1 ? 0 : 7), { color: ink });
  }
}

function check({ counts, names }: MatrixOptions): void {
  if (counts.length === 0) throw new DrawError("A matrix without rows; give at least one.");
  if (names.length !== counts.length)
    throw new DrawError(`A matrix of ${counts.length} rows has ${names.length} names; expected one each.`);
  for (const [r, row] of counts.entries()) {
    if (row.length !== counts.length)
      throw new DrawError(`Row ${r} of the matrix has ${row.length} columns; expected ${counts.length}, one for each row.`);
    if (row.some((count) => !(Number.isInteger(count) && count >= 0)))
      throw new DrawError(`Row ${r} of the matrix has a value that is no count; expected whole numbers, 0 or more.`);
  }
}
