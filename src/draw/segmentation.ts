// Classes of pixels as colours: over the image they belong to, beside other opinions, with a legend.
import { DrawError } from "./errors.js";
import { type GridOptions, grid, stacked } from "./grid.js";
import { blank, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";

/** A class for each pixel, row by row; 255 for none. */
export interface LabelledImage {
  readonly width: number;
  readonly height: number;
  readonly labels: Uint8Array;
}

const NONE = 255;
const none: Color = [0, 0, 0];

/** The colour of a class: Pascal VOC's, which takes the bits of the class by turns for red, green and blue, from class 1 on. */
export function labelColor(label: number): Color {
  const color = [0, 0, 0];
  for (let bits = label + 1, place = 7; bits > 0; bits >>= 3, place--) {
    for (const c of [0, 1, 2]) color[c]! |= ((bits >> c) & 1) << place;
  }
  return color as unknown as Color;
}

/** The nearest pixels of an image, so that its longer side has at most `side`. Returns the rows and columns that stay. */
function sampled(width: number, height: number, side: number): { columns: number[]; rows: number[] } {
  const factor = Math.max(1, Math.max(width, height) / side);
  const pick = (length: number) => {
    const count = Math.max(1, Math.round(length / factor));
    return Array.from({ length: count }, (_, i) => Math.min(length - 1, Math.floor(((i + 0.5) * length) / count)));
  };
  return { columns: pick(width), rows: pick(height) };
}

/** Colours of the classes over a grey shadow of the image. */
export function labelledImage(image: RgbImage, { width, height, labels }: LabelledImage, alpha = 0.75): RgbImage {
  if (width !== image.width || height !== image.height || labels.length !== width * height) {
    throw new DrawError(
      `Labels of ${width} x ${height} pixels for an image of ${image.width} x ${image.height}; expected the same size.`,
    );
  }
  const data = new Uint8Array(image.data.length);
  for (const [i, label] of labels.entries()) {
    const color = label === NONE ? none : labelColor(label);
    const grey = (image.data[3 * i]! + image.data[3 * i + 1]! + image.data[3 * i + 2]!) / 3;
    for (let c = 0; c < 3; c++) data[3 * i + c] = Math.round(color[c]! * alpha + grey * (1 - alpha));
  }
  return { width, height, data };
}

function shrunk(image: RgbImage, side: number): RgbImage {
  const { columns, rows } = sampled(image.width, image.height, side);
  const made = { width: columns.length, height: rows.length, data: new Uint8Array(3 * columns.length * rows.length) };
  for (const [y, row] of rows.entries()) {
    for (const [x, column] of columns.entries()) {
      const from = 3 * (row * image.width + column);
      made.data.set(image.data.subarray(from, from + 3), 3 * (y * made.width + x));
    }
  }
  return made;
}

function shrunkLabels({ width, height, labels }: LabelledImage, side: number): LabelledImage {
  const { columns, rows } = sampled(width, height, side);
  const kept = rows.flatMap((row) => columns.map((column) => labels[row * width + column]!));
  return { width: columns.length, height: rows.length, labels: Uint8Array.from(kept) };
}

export interface SegmentationGridOptions extends Pick<GridOptions, "cell" | "gap"> {
  images: readonly RgbImage[];
  /** Opinions beside the images: a heading and the classes of each image's pixels. */
  columns: readonly (readonly [heading: string, labels: readonly LabelledImage[]])[];
  /** Names of the classes. */
  classes: readonly string[];
  /** Larger images are shown smaller: pixels of the longer side. Default 320. */
  most?: number;
}

/** A row an image: the image, and each opinion in colours. Below, the classes that are seen. */
export function segmentationGrid(options: SegmentationGridOptions): RgbImage {
  const { images, columns, classes, most = 320, ...rest } = options;
  for (const [heading, labels] of columns) {
    if (labels.length !== images.length)
      throw new DrawError(`${heading} has ${labels.length} images, expected ${images.length}: one for each image.`);
  }
  const small = images.map((image) => shrunk(image, most));
  const opinions = columns.map(([, labels]) => labels.map((each) => shrunkLabels(each, most)));
  const cells = small.map((image, i) => [image, ...opinions.map((each) => labelledImage(image, each[i]!))]);
  const picture = grid(cells, { ...rest, columns: ["image", ...columns.map(([heading]) => heading)] });
  const seen = new Set(opinions.flat().flatMap(({ labels }) => [...new Set(labels)]));
  const legend = legendOf(
    [...seen].sort((a, b) => a - b),
    classes,
    picture.width,
  );
  return legend ? stacked([picture, legend]) : picture;
}

/** Names beside their colours, in as many lines as they need. */
function legendOf(labels: readonly number[], classes: readonly string[], width: number): RgbImage | undefined {
  if (labels.length === 0) return undefined;
  const line = textHeight() + 6;
  const places: { label: number; text: string; x: number; y: number }[] = [];
  let [x, y] = [6, 4];
  for (const label of labels) {
    const name = label === NONE ? "no class" : (classes[label] ?? `class ${label}`);
    const text = fitText(name, width - 40);
    const need = 22 + textWidth(text) + 16;
    if (x > 6 && x + need > width) [x, y] = [6, y + line];
    places.push({ label, text, x, y });
    x += need;
  }
  const image = blank(width, y + line + 2);
  for (const { label, text, x, y } of places) {
    fillRect(image, x, y + 1, 14, 14, label === NONE ? none : labelColor(label));
    drawText(image, text, x + 22, y);
  }
  return image;
}
