// Shares of 1 as bars: a row each with its name, or, where they are many, side by side from the lowest to the highest.
import { colors, ink, linearAxis, pale } from "./chart.js";
import { DrawError } from "./errors.js";
import { blank, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";

export interface Bar {
  readonly name: string;
  /** From 0 to 1; null where there is nothing to take a share of. */
  readonly share: number | null;
  /** Written behind the value, such as `of 100`. */
  readonly note?: string;
}

export interface BarOptions {
  bars: readonly Bar[];
  title?: string;
  /** A share that is drawn through all bars. */
  reference?: number;
  /** What `reference` is. */
  referenceLabel?: string;
}

/** Above so many, bars stand side by side and only the ends are named. */
const NAMED = 60;
const NAMED_ENDS = 6;
const MARGIN = 14;
const LINE = textHeight() + 6;
const LENGTH = 420;

/** Bars of shares. */
export function barChart(options: BarOptions): RgbImage {
  check(options);
  return options.bars.length <= NAMED ? rowsOf(options) : sortedBars(options);
}

function rowsOf({ bars, title, reference, referenceLabel = "" }: BarOptions): RgbImage {
  const names = Math.min(320, Math.max(...bars.map(({ name }) => textWidth(name))));
  const texts = bars.map(({ share, note = "" }) => (share === null ? "none" : `${percentOf(share)} ${note}`.trim()));
  const left = MARGIN + names + 10;
  const top = MARGIN + (title ? LINE + 6 : 0) + (reference === undefined ? 0 : LINE);
  const height = bars.length * LINE;
  const image = blank(
    left + LENGTH + 10 + Math.max(...texts.map((text) => textWidth(text))) + MARGIN,
    top + height + LINE + MARGIN,
  );
  if (title) drawText(image, fitText(title, image.width - 2 * MARGIN), MARGIN, MARGIN, { color: ink });
  const axis = linearAxis(0, 1, 4);
  for (const tick of axis.ticks) {
    fillRect(image, left + Math.round(tick * LENGTH), top, 1, height, pale);
    drawText(image, `${100 * tick}`, left + Math.round(tick * LENGTH), top + height + 6, { align: "center", color: ink });
  }
  for (const [i, { name, share }] of bars.entries()) {
    const y = top + i * LINE;
    drawText(image, fitText(name, names), left - 10, y + 5, { align: "right", color: ink });
    fillRect(image, left, y + 3, Math.round((share ?? 0) * LENGTH), LINE - 6, colors[0]!);
    drawText(image, texts[i]!, left + LENGTH + 10, y + 5, { color: share === null ? grey : ink });
  }
  fillRect(image, left, top, 1, height, ink);
  if (reference !== undefined) {
    const x = left + Math.round(reference * LENGTH);
    for (let y = top - 4; y < top + height; y += 8) fillRect(image, x, y, 2, 5, accent);
    const label = `${referenceLabel} ${percentOf(reference)}`.trim();
    const at = Math.min(x, image.width - MARGIN - (textWidth(label) >> 1));
    drawText(image, label, at, top - LINE - 2, { align: "center", color: accent });
  }
  return image;
}

const grey: Color = [120, 120, 120];
const accent = colors[1]!;

/** All shares from the lowest to the highest, and the names of the ends. */
function sortedBars({ bars, title, reference, referenceLabel = "" }: BarOptions): RgbImage {
  const known = bars.flatMap(({ name, share }) => (share === null ? [] : [{ name, share }]));
  known.sort((a, b) => a.share - b.share);
  const width = 900;
  const height = 300;
  const left = MARGIN + textWidth("100") + 10;
  const top = MARGIN + (title ? LINE + 6 : 0);
  const image = blank(left + width + MARGIN, top + height + 2 * LINE + NAMED_ENDS * LINE + MARGIN);
  if (title) drawText(image, fitText(title, image.width - 2 * MARGIN), MARGIN, MARGIN, { color: ink });
  for (const tick of linearAxis(0, 1, 4).ticks) {
    const y = top + Math.round((1 - tick) * height);
    fillRect(image, left, y, width, 1, pale);
    drawText(image, `${100 * tick}`, left - 8, y - 7, { align: "right", color: ink });
  }
  for (let x = 0; x < width; x++) {
    const { share } = known[Math.floor((x * known.length) / width)] ?? { share: 0 };
    const length = Math.round(share * height);
    fillRect(image, left + x, top + height - length, 1, length, colors[0]!);
  }
  fillRect(image, left, top + height, width, 1, ink);
  if (reference !== undefined) {
    const y = top + Math.round((1 - reference) * height);
    for (let x = left; x < left + width; x += 8) fillRect(image, x, y - 1, 5, 2, accent);
    drawText(image, `${referenceLabel} ${percentOf(reference)}`.trim(), left + 6, y - LINE, { color: accent });
  }
  const missing = bars.length - known.length;
  const words = `${known.length} classes from the lowest to the highest${missing > 0 ? `; ${missing} without images` : ""}`;
  drawText(image, words, left, top + height + 8, { color: ink });
  const half = (width >> 1) - 10;
  for (const [column, ends] of [known.slice(0, NAMED_ENDS), known.slice(-NAMED_ENDS).reverse()].entries()) {
    for (const [i, { name, share }] of ends.entries()) {
      const y = top + height + 2 * LINE + i * LINE;
      const x = left + column * (width >> 1);
      drawText(image, percentOf(share), x, y, { color: grey });
      drawText(image, fitText(name, half - 100), x + 100, y, { color: ink });
    }
  }
  return image;
}

const percentOf = (share: number) => `${(100 * share).toFixed(1)} %`;

function check({ bars, reference }: BarOptions): void {
  if (bars.length === 0) throw new DrawError("A bar chart without bars; give at least one.");
  for (const { name, share } of bars) {
    if (share !== null && !(share >= 0 && share <= 1))
      throw new DrawError(`The bar "${name}" has the share ${share}; expected 0 to 1, or null.`);
  }
  if (reference !== undefined && !(reference >= 0 && reference <= 1))
    throw new DrawError(`The reference is ${reference}; expected 0 to 1.`);
}
