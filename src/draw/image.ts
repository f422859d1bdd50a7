// Images as plain bytes, and what every picture is made with: filling, pasting, enlarging, blending.
import { isTensor, type Tensor, tidy } from "../torch/index.js";
import { DrawError } from "./errors.js";

/** Red, green, blue, 0 to 255. */
export type Color = readonly [red: number, green: number, blue: number];

/** An RGB image: rows from the top, 3 bytes a pixel. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Something to look at: becomes the file `name`.png. */
export interface Picture {
  readonly name: string;
  readonly image: RgbImage;
}

/** An image of one colour. */
export function blank(width: number, height: number, color: Color = [255, 255, 255]): RgbImage {
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0)) {
    throw new DrawError(`An image of ${width} x ${height} pixels; expected whole numbers above 0.`);
  }
  const image = { width, height, data: new Uint8Array(width * height * 3) };
  fillRect(image, 0, 0, width, height, color);
  return image;
}

/** Paints a rectangle; what lies outside the image is left out. `alpha` 1 covers, less lets what is there shine through. */
export function fillRect(image: RgbImage, x: number, y: number, width: number, height: number, color: Color, alpha = 1): void {
  const right = Math.min(image.width, x + width);
  const bottom = Math.min(image.height, y + height);
  for (let row = Math.max(0, y); row < bottom; row++) {
    for (let column = Math.max(0, x); column < right; column++) blendPixel(image, column, row, color, alpha);
  }
}

/** Mixes a colour into one pixel inside the image. */
export function blendPixel({ width, data }: RgbImage, x: number, y: number, color: Color, alpha: number): void {
  const at = (y * width + x) * 3;
  for (let c = 0; c < 3; c++) data[at + c] = Math.round(data[at + c]! * (1 - alpha) + color[c]! * alpha);
}

/** Copies `source` into `target` with its top left corner at (x, y); what lies outside is left out. */
export function paste(target: RgbImage, source: RgbImage, x: number, y: number): void {
  const left = Math.max(0, x);
  const right = Math.min(target.width, x + source.width);
  if (right <= left) return;
  for (let row = Math.max(0, y); row < Math.min(target.height, y + source.height); row++) {
    const from = ((row - y) * source.width + left - x) * 3;
    target.data.set(source.data.subarray(from, from + (right - left) * 3), (row * target.width + left) * 3);
  }
}

/** Every pixel `factor` times as wide and high. */
export function enlarge(image: RgbImage, factor: number): RgbImage {
  if (!(Number.isInteger(factor) && factor >= 1))
    throw new DrawError(`enlarge by ${factor}; expected a whole number, 1 or more.`);
  if (factor === 1) return image;
  const width = image.width * factor;
  const data = new Uint8Array(width * image.height * factor * 3);
  for (let y = 0; y < image.height; y++) {
    const first = y * factor * width * 3;
    for (let x = 0; x < width; x++) {
      const from = (y * image.width + Math.floor(x / factor)) * 3;
      for (let c = 0; c < 3; c++) data[first + x * 3 + c] = image.data[from + c]!;
    }
    for (let again = 1; again < factor; again++) data.copyWithin(first + again * width * 3, first, first + width * 3);
  }
  return { width, height: image.height * factor, data };
}

/** The whole factor that brings a side of `size` pixels nearest to `target`: 5 for 28 to 128, 1 for 224. */
export function factorFor(size: number, target: number): number {
  return Math.max(1, Math.round(target / size));
}

/** Shades of grey of an image, as an image. */
export function greyed(image: RgbImage): RgbImage {
  const data = new Uint8Array(image.data.length);
  for (let i = 0; i < data.length; i += 3) {
    data.fill(Math.round(0.299 * image.data[i]! + 0.587 * image.data[i + 1]! + 0.114 * image.data[i + 2]!), i, i + 3);
  }
  return { ...image, data };
}

/**
 * The images of a batch [B, C, H, W] with values from 0 to 1 (clamped) and 1 or 3 channels: see denormalise for normalised ones.
 * Values that are not finite show as magenta.
 */
export function imagesOf(images: Tensor, name = "images"): RgbImage[] {
  if (!isTensor(images)) throw new DrawError(`${name} is ${typeof images}; expected a Tensor [B, C, H, W].`);
  const [count, channels, height, width] = images.shape;
  if (images.ndim !== 4 || (channels !== 1 && channels !== 3) || images.numel === 0) {
    throw new DrawError(`${name} has shape [${images.shape.join(", ")}]; expected [B, C, H, W] with 1 or 3 channels.`);
  }
  const values = tidy(() => images.detach().to("cpu").float().contiguous().data()) as Float32Array;
  const plane = height! * width!;
  return Array.from({ length: count! }, (_, b) => {
    const data = new Uint8Array(plane * 3);
    for (let i = 0; i < plane; i++) {
      for (let c = 0; c < 3; c++) {
        const value = values[(b * channels + (channels === 1 ? 0 : c)) * plane + i]!;
        data[i * 3 + c] = Number.isFinite(value) ? Math.round(255 * Math.min(1, Math.max(0, value))) : c === 1 ? 0 : 255;
      }
    }
    return { width: width!, height: height!, data };
  });
}
