// Objects in an image: boxes with class and score, masks as colour that the image shines through, with their outline.
import { DrawError } from "./errors.js";
import { blendPixel, type Color, fillRect, type RgbImage } from "./image.js";
import { drawText, fitText, textHeight, textWidth } from "./text.js";

/** An object to draw, in pixels of the image. */
export interface DrawnObject {
  readonly box: readonly [left: number, top: number, right: number, bottom: number];
  /** What it is: "dog". */
  readonly name: string;
  /** From 0 to 1; shown in percent. */
  readonly score?: number;
  readonly color: Color;
  /** By rows, of the image's size; every value but 0 is inside. */
  readonly mask?: ArrayLike<number>;
  /** A box of dashes, for what does not count. */
  readonly dashed?: boolean;
}

/** A colour of its own for each class: hues a golden angle apart, so that neighbours differ, by turns bright and less so. */
export function classColor(label: number): Color {
  const hue = (label * 137.508) % 360;
  const [saturation, value] = [0.65 + 0.3 * ((label >> 1) % 2), label % 2 === 0 ? 1 : 0.8];
  const channel = (n: number): number => {
    const k = (n + hue / 60) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Labels of more objects than this are written small. */
const MANY = 12;

/** A copy of the image with the objects on it, later ones above earlier ones. */
export function drawObjects(image: RgbImage, objects: readonly DrawnObject[]): RgbImage {
  const drawn = { ...image, data: image.data.slice() };
  const thick = Math.max(1, Math.round(Math.min(image.width, image.height) / 240));
  for (const { mask, color } of objects) if (mask) drawMask(drawn, mask, color);
  for (const object of objects) drawBox(drawn, object, thick);
  const taken: Rect[] = [];
  // The last one, which lies above, has the first choice of where its label goes.
  const scale = objects.length > MANY ? 1 : Math.min(2, thick);
  for (const object of [...objects].reverse()) drawLabel(drawn, object, scale, taken);
  return drawn;
}

function drawMask(image: RgbImage, mask: ArrayLike<number>, color: Color): void {
  const { width, height } = image;
  if (mask.length !== width * height) {
    throw new DrawError(
      `A mask of ${mask.length} values for an image of ${width} x ${height} pixels; expected ${width * height}.`,
    );
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!mask[at]) continue;
      const edge =
        (x > 0 && !mask[at - 1]) ||
        (x < width - 1 && !mask[at + 1]) ||
        (y > 0 && !mask[at - width]) ||
        (y < height - 1 && !mask[at + width]);
      blendPixel(image, x, y, color, edge ? 0.9 : 0.45);
    }
  }
}

interface Rect {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A box in whole pixels, at least one wide and high. */
function pixelsOf({ box }: DrawnObject): Rect {
  const [left, top] = [Math.floor(box[0]), Math.floor(box[1])];
  return { left, top, right: Math.max(left + 1, Math.ceil(box[2])), bottom: Math.max(top + 1, Math.ceil(box[3])) };
}

function drawBox(image: RgbImage, object: DrawnObject, thick: number): void {
  const { left, top, right, bottom } = pixelsOf(object);
  const dash = object.dashed ? 4 * thick : Number.POSITIVE_INFINITY;
  const line = (x: number, y: number, width: number, height: number): void => {
    const along = Math.max(width, height);
    for (let from = 0; from < along; from += 2 * dash) {
      const length = Math.min(dash, along - from);
      if (width >= height) fillRect(image, x + from, y, length, height, object.color);
      else fillRect(image, x, y + from, width, length, object.color);
    }
  };
  line(left, top, right - left, thick);
  line(left, bottom - thick, right - left, thick);
  line(left, top, thick, bottom - top);
  line(right - thick, top, thick, bottom - top);
}

/** Class and score on a patch of colour: above the box, else inside it at its top, else below it, wherever no other label is. */
function drawLabel(image: RgbImage, object: DrawnObject, scale: number, taken: Rect[]): void {
  const { name, score, color } = object;
  const full = score === undefined ? name : `${name} ${Math.round(100 * score)}`;
  const text = fitText(full, image.width - 4 * scale, scale);
  const [width, height] = [textWidth(text, scale) + 4 * scale, textHeight(scale) + scale];
  const box = pixelsOf(object);
  const left = Math.max(0, Math.min(box.left, image.width - width));
  const fits = (top: number): boolean =>
    top >= 0 &&
    top + height <= image.height &&
    taken.every((other) => left >= other.right || left + width <= other.left || top >= other.bottom || top + height <= other.top);
  const places = [box.top - height, box.top, box.bottom, box.bottom - height, box.top + height, box.top - 2 * height];
  const top = places.find(fits) ?? Math.max(0, Math.min(box.top, image.height - height));
  taken.push({ left, top, right: left + width, bottom: top + height });
  fillRect(image, left, top, width, height, color);
  const bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140;
  drawText(image, text, left + 2 * scale, top + scale, { scale, color: bright ? [0, 0, 0] : [255, 255, 255] });
}
