// Values of several rows under each other, one panel a measure: every value a dot, their mean a bar across. It shows at a glance whether rows
// differ by more than chance.
import { type Axis, colors, ink, linearAxis, pale, rangeOf } from "./chart.js";
import { DrawError } from "./errors.js";
import { blank, blendPixel, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";

export interface StripRow {
  readonly name: string;
  /** Grey, and no reason to make the axis much longer: where its values are far off, they stand as numbers at the panel's edge. */
  readonly muted?: boolean;
}

export interface StripPanel {
  readonly title: string;
  /** Values of each row; a row may have none. */
  readonly values: readonly (readonly number[])[];
}

export interface StripOptions {
  rows: readonly StripRow[];
  panels: readonly StripPanel[];
  title?: string;
  /** A row whose mean is drawn through all others. */
  reference?: number;
  /** Pixels of a panel; default 300. */
  panelWidth?: number;
}

const ROW = 30;
const GAP = 26;
const grey: Color = [120, 120, 120];

/** A strip chart. Rows come from top to bottom in their order. */
export function stripChart(options: StripOptions): RgbImage {
  check(options);
  const { rows, panels, title, reference, panelWidth = 300 } = options;
  const line = textHeight() + 6;
  const names = Math.min(320, Math.max(...rows.map(({ name }) => textWidth(name))));
  const left = 14 + names + 14;
  const top = 14 + (title ? line + 6 : 0) + line;
  const height = rows.length * ROW;
  const image = blank(left + panels.length * (panelWidth + GAP), top + height + line + 14);
  if (title) drawText(image, fitText(title, image.width - 28), 14, 10, { color: ink });
  for (const [r, { name, muted }] of rows.entries()) {
    const at = top + r * ROW + ((ROW - textHeight()) >> 1) + 2;
    drawText(image, fitText(name, names), 14, at, { color: muted ? grey : ink });
  }
  for (const [p, panel] of panels.entries()) {
    const frame = { left: left + p * (panelWidth + GAP), top, width: panelWidth, height };
    drawText(image, fitText(panel.title, panelWidth), frame.left, top - line, { color: ink });
    drawPanel(image, frame, { rows, values: panel.values, reference });
  }
  return image;
}

interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

function drawPanel(
  image: RgbImage,
  frame: Frame,
  { rows, values, reference }: { rows: readonly StripRow[]; values: StripPanel["values"]; reference: number | undefined },
): void {
  const { left, top, width, height } = frame;
  const axis = axisFor(rows, values, width);
  for (const [i, tick] of axis.ticks.entries()) {
    const x = Math.round(left + axis.place(tick) * width);
    fillRect(image, x, top, 1, height, pale);
    drawText(image, axis.labels[i]!, x, top + height + 8, { align: "center", color: ink });
  }
  fillRect(image, left, top + height, width, 1, ink);
  const xOf = (value: number) => left + axis.place(value) * width;
  const standard = reference === undefined ? [] : (values[reference] ?? []);
  if (standard.length > 0) {
    const x = Math.round(xOf(meanOf(standard)));
    for (let y = top; y < top + height; y += 8) fillRect(image, x, y, 1, 4, ink);
  }
  for (const [r, own] of values.entries()) {
    const middle = top + r * ROW + ROW / 2;
    const color = rows[r]!.muted ? grey : colors[0]!;
    if (own.length === 0) continue;
    const mean = meanOf(own);
    if (mean < axis.low || mean > axis.high) {
      const low = mean < axis.low;
      const text = low ? `< ${mean.toFixed(1)}` : `${mean.toFixed(1)} >`;
      drawText(image, text, low ? left + 4 : left + width - 4, Math.round(middle) - 7, { align: low ? "left" : "right", color });
      continue;
    }
    fillRect(image, Math.round(xOf(mean)) - 1, Math.round(middle) - 10, 3, 20, color);
    for (const value of own) {
      if (value >= axis.low && value <= axis.high) drawDot(image, xOf(value), middle, color);
    }
  }
}

/** A disc that lets others shine through. */
function drawDot(image: RgbImage, x: number, y: number, color: Color): void {
  const radius = 4.5;
  for (let py = Math.floor(y - radius); py <= y + radius; py++) {
    for (let px = Math.floor(x - radius); px <= x + radius; px++) {
      const covered = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(px - x, py - y)));
      if (px >= 0 && px < image.width && covered > 0) blendPixel(image, px, py, color, 0.75 * covered);
    }
  }
}

/** Made for the rows that are not muted; for the others where they are not far off. */
function axisFor(rows: readonly StripRow[], values: StripPanel["values"], width: number): Axis {
  const of = (muted: boolean) => values.flatMap((own, r) => (Boolean(rows[r]!.muted) === muted ? own : []));
  const main = of(false);
  const [low, high] = rangeOf(main.length > 0 ? main : of(true), 0.1);
  const room = high - low;
  const near = of(true).filter((value) => value >= low - room && value <= high + room);
  const [from, to] = rangeOf([low, high, ...near], near.some((value) => value < low || value > high) ? 0.05 : 0);
  return linearAxis(from, to, Math.max(2, Math.round(width / 90)));
}

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function check({ rows, panels, reference }: StripOptions): void {
  if (rows.length === 0 || panels.length === 0) throw new DrawError("A strip chart without rows or panels; give at least one.");
  for (const { title, values } of panels) {
    if (values.length !== rows.length) {
      throw new DrawError(`Panel "${title}" has values for ${values.length} rows; expected ${rows.length}.`);
    }
    if (values.flat().some((value) => !Number.isFinite(value))) {
      throw new DrawError(`Panel "${title}" has a value that is not finite; leave it out.`);
    }
  }
  if (reference !== undefined && !rows[reference]) {
    throw new DrawError(`The reference is row ${reference}; expected 0 to ${rows.length - 1}.`);
  }
}
