// Pictures in rows and columns, with headings.
import { DrawError } from "./errors.js";
import { blank, type Color, enlarge, factorFor, paste, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";

export interface GridOptions {
  /** One heading a column. */
  columns?: readonly string[];
  /** One label a row, at the left. */
  rows?: readonly string[];
  /** Small images are enlarged by a whole factor to about so many pixels. Default 128. */
  cell?: number;
  /** Pixels between cells. Default 6. */
  gap?: number;
  /** Default white. */
  background?: Color;
}

/** Images as rows of cells; undefined leaves a cell empty. Cells of one picture may differ in size. */
export function grid(cells: readonly (readonly (RgbImage | undefined)[])[], options: GridOptions = {}): RgbImage {
  const { cell = 128, gap = 6, background = [255, 255, 255] } = options;
  const width = Math.max(0, ...cells.map((row) => row.length));
  if (width === 0) throw new DrawError("A grid without images; give at least one.");
  for (const [name, labels, count] of [
    ["columns", options.columns, width] as const,
    ["rows", options.rows, cells.length] as const,
  ]) {
    if (labels && labels.length !== count)
      throw new DrawError(`A grid of ${count} ${name} has ${labels.length} labels for them.`);
  }
  const large = cells.map((row) => row.map((each) => each && enlarge(each, factorFor(Math.max(each.width, each.height), cell))));
  const widths = Array.from({ length: width }, (_, c) => Math.max(1, ...large.map((row) => row[c]?.width ?? 0)));
  const heights = large.map((row) => Math.max(1, ...row.map((each) => each?.height ?? 0)));
  const left = gap + (options.rows ? Math.max(...options.rows.map((label) => textWidth(label))) + 2 * gap : 0);
  const top = gap + (options.columns ? textHeight() + gap : 0);
  const sum = (sizes: readonly number[]): number => sizes.reduce((total, size) => total + size + gap, 0);
  const image = blank(left + sum(widths), top + sum(heights), background);
  for (const [c, label] of (options.columns ?? []).entries()) {
    const x = left + sum(widths.slice(0, c)) + (widths[c]! >> 1);
    drawText(image, fitText(label, widths[c]! + gap - 2), x, gap, { align: "center" });
  }
  for (const [r, row] of large.entries()) {
    const y = top + sum(heights.slice(0, r));
    const label = options.rows?.[r];
    if (label) drawText(image, label, left - 2 * gap, y + (heights[r]! >> 1) - (textHeight() >> 1), { align: "right" });
    for (const [c, each] of row.entries()) if (each) paste(image, each, left + sum(widths.slice(0, c)), y);
  }
  return image;
}

/** Rows become columns. */
export function transposed<T>(cells: readonly (readonly T[])[]): T[][] {
  return Array.from({ length: cells[0]?.length ?? 0 }, (_, c) => cells.map((row) => row[c]!));
}

/** Images below one another, left-aligned. */
export function stacked(images: readonly RgbImage[], { gap = 0, background = [255, 255, 255] as Color } = {}): RgbImage {
  if (images.length === 0) throw new DrawError("A stack without images; give at least one.");
  const height = images.reduce((sum, each) => sum + each.height + gap, -gap);
  const image = blank(Math.max(...images.map((each) => each.width)), height, background);
  let y = 0;
  for (const each of images) {
    paste(image, each, 0, y);
    y += each.height + gap;
  }
  return image;
}
