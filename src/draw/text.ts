// Words in pictures, in the built-in bitmap font.
import { glyphHeight, glyphOf } from "./font.js";
import { blendPixel, type Color, type RgbImage } from "./image.js";

export interface TextOptions {
  /** Pixels a dot: 1, 2 (default), ... */
  scale?: number;
  /** Default near black. */
  color?: Color;
  /** Which point of the text (x, y) is: of its line from left to right (default "left"). */
  align?: "left" | "center" | "right";
  /** Reading upwards, for the label of a vertical axis; (x, y) is then its bottom left corner, or its middle with "center". */
  upwards?: boolean;
}

/** Pixels from the top of a line of text to the bottom of its descenders. */
export function textHeight(scale = 2): number {
  return glyphHeight * scale;
}

/** Pixels that a text is wide. */
export function textWidth(text: string, scale = 2): number {
  const dots = [...text].reduce((sum, character) => sum + glyphOf(character)[0]!.length + 1, -1);
  return Math.max(0, dots) * scale;
}

/** The text as it fits into `width` pixels: its end is replaced by dots where it does not. */
export function fitText(text: string, width: number, scale = 2): string {
  if (textWidth(text, scale) <= width) return text;
  let cut = [...text];
  while (cut.length > 0 && textWidth(`${cut.join("")}..`, scale) > width) cut = cut.slice(0, -1);
  return cut.length > 0 ? `${cut.join("")}..` : "";
}

/** Writes one line with its top left corner at (x, y), or centred or ending there. What lies outside the image is left out. */
export function drawText(image: RgbImage, text: string, x: number, y: number, options: TextOptions = {}): void {
  const { scale = 2, color = [34, 34, 34], align = "left", upwards = false } = options;
  const length = textWidth(text, scale);
  const shift = align === "left" ? 0 : align === "center" ? Math.round(length / 2) : length;
  let along = -shift;
  const dot = (column: number, row: number): void => {
    for (let i = 0; i < scale; i++) {
      for (let j = 0; j < scale; j++) {
        const px = upwards ? x + row * scale + j : x + column + i;
        const py = upwards ? y - column - i : y + row * scale + j;
        if (px >= 0 && py >= 0 && px < image.width && py < image.height) blendPixel(image, px, py, color, 1);
      }
    }
  };
  for (const character of text) {
    const glyph = glyphOf(character);
    for (const [row, dots] of glyph.entries()) {
      for (const [column, on] of dots.entries()) if (on) dot(along + column * scale, row);
    }
    along += (glyph[0]!.length + 1) * scale;
  }
}
