// The one form of an image between a dataset and the augmentations: 8 bits, row by row, channels interleaved.

/** A decoded image: `data[(y * width + x) * channels + c]`, 0..255. `data` may be a view on memory that must not be written to. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
  /** The class of each pixel, row by row, 255 for none: where the dataset has `pixelClasses`. */
  readonly labels?: Uint8Array;
}

// ITU-R 601 luma in 16-bit fixed point, the rounding of PIL's convert("L").
const RED = 19595;
const GREEN = 38470;
const BLUE = 7471;

/** Luma of one pixel. */
export function luma(red: number, green: number, blue: number): number {
  return (red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16;
}

/** RGB to one grey channel; a grey image is returned as it is. */
export function toGrey(image: Pixels): Pixels {
  if (image.channels === 1) return image;
  const { width, height, data } = image;
  const grey = new Uint8Array(width * height);
  for (let i = 0, p = 0; i < grey.length; i++, p += 3) grey[i] = luma(data[p]!, data[p + 1]!, data[p + 2]!);
  return { width, height, channels: 1, data: grey };
}
