// Values on a grid of patches shown over the image they belong to: masks, heat maps.
import { isTensor, type Tensor, tidy } from "../torch/index.js";
import { type Colormap, colorOf } from "./colormap.js";
import { DrawError } from "./errors.js";
import { blendPixel, type Color, greyed, type RgbImage } from "./image.js";

/** A grid of values, rows from the top. */
export interface PatchValues {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** The patch grids of a Tensor [N, rows, columns], or [N, L] where L is a square. */
export function patchGrids(tensor: Tensor, name: string): PatchValues[] {
  if (!isTensor(tensor)) throw new DrawError(`${name} is ${typeof tensor}; expected a Tensor of values by patch.`);
  const { shape } = tensor;
  const side = Math.sqrt(shape[1] ?? 0);
  const [rows, columns] = shape.length === 3 ? [shape[1]!, shape[2]!] : [side, side];
  if ((shape.length !== 2 && shape.length !== 3) || !Number.isInteger(rows) || tensor.numel === 0) {
    throw new DrawError(
      `${name} has shape [${shape.join(", ")}]; expected [N, rows, columns] of patches, or [N, L] where L is a square.`,
    );
  }
  const values = tidy(() => tensor.detach().to("cpu").float().contiguous().data()) as Float32Array;
  const size = rows * columns;
  return Array.from({ length: shape[0]! }, (_, i) => ({ rows, columns, values: values.subarray(i * size, (i + 1) * size) }));
}

/** Calls `paint` for every pixel with the index of its patch. */
function eachPixel(image: RgbImage, grid: PatchValues, paint: (x: number, y: number, patch: number) => void): void {
  if (grid.rows > image.height || grid.columns > image.width) {
    throw new DrawError(
      `${grid.rows} x ${grid.columns} patches on an image of ${image.height} x ${image.width} pixels (rows x columns); expected no more patches than pixels.`,
    );
  }
  for (let y = 0; y < image.height; y++) {
    const row = Math.floor((y * grid.rows) / image.height);
    for (let x = 0; x < image.width; x++) paint(x, y, row * grid.columns + Math.floor((x * grid.columns) / image.width));
  }
}

/** The image with its masked patches (values above 0.5) covered by a hatched bluish grey, which also stands out on grey images. */
export function maskedImage(image: RgbImage, mask: PatchValues): RgbImage {
  const out = { ...image, data: image.data.slice() };
  const period = Math.max(4, Math.round(Math.min(image.width / mask.columns, image.height / mask.rows) / 2));
  const stripe = Math.max(1, period >> 2);
  eachPixel(image, mask, (x, y, patch) => {
    if (mask.values[patch]! <= 0.5) return;
    blendPixel(out, x, y, [122, 136, 162], 0.92);
    if ((x + y) % period < stripe) blendPixel(out, x, y, [172, 184, 206], 0.9);
  });
  return out;
}

/** The image with a line around the patches that are marked (above 0.5). */
export function outlinedImage(image: RgbImage, marked: PatchValues, color: Color = [255, 92, 0]): RgbImage {
  const out = { ...image, data: image.data.slice() };
  const width = Math.max(1, Math.round(Math.min(image.width / marked.columns, image.height / marked.rows) / 10));
  const at = (x: number, y: number): boolean => {
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) return false;
    const patch = Math.floor((y * marked.rows) / image.height) * marked.columns + Math.floor((x * marked.columns) / image.width);
    return marked.values[patch]! > 0.5;
  };
  eachPixel(image, marked, (x, y, patch) => {
    if (marked.values[patch]! <= 0.5) return;
    const edge = [at(x - width, y), at(x + width, y), at(x, y - width), at(x, y + width)].includes(false);
    if (edge) blendPixel(out, x, y, color, 1);
  });
  return out;
}

export interface HeatOptions {
  /** Default "inferno". */
  colormap?: Colormap;
  /** How much of the heat covers the (greyed) image. Default 0.65; 1 shows the map alone, as DINO's own pictures do. */
  alpha?: number;
  /** The values that get the first and the last colour. Default the smallest and the largest. */
  range?: readonly [number, number];
}

/** Values by patch as colours over the image, each patch in one colour (nearest upsampling). */
export function heatImage(image: RgbImage, heat: PatchValues, options: HeatOptions = {}): RgbImage {
  const { colormap = "inferno", alpha = 0.65 } = options;
  const [low, high] = options.range ?? rangeOf(heat.values);
  const colors = Array.from(heat.values, (value): Color => {
    if (!Number.isFinite(value)) return [255, 0, 255];
    return colorOf(colormap, high > low ? (value - low) / (high - low) : 0);
  });
  const out = greyed(image);
  eachPixel(image, heat, (x, y, patch) => blendPixel(out, x, y, colors[patch]!, alpha));
  return out;
}

/** The image as it is where patches are kept (values above 0.5), dark and grey elsewhere. */
export function keptImage(image: RgbImage, kept: PatchValues): RgbImage {
  const out = greyed(image);
  eachPixel(image, kept, (x, y, patch) => {
    if (kept.values[patch]! <= 0.5) return blendPixel(out, x, y, [24, 24, 32], 0.75);
    const at = (y * image.width + x) * 3;
    out.data.set(image.data.subarray(at, at + 3), at);
  });
  return out;
}

function rangeOf(values: Float32Array): [number, number] {
  const finite = values.filter(Number.isFinite);
  return finite.length === 0 ? [0, 0] : [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))];
}

/**
 * Which patches hold the top `mass` (0 to 1) of the attention (DINO's visualisation): 1 where the values, summed from the smallest on and
 * divided by their total, exceed 1 - mass.
 */
export function topMass(attention: PatchValues, mass: number): PatchValues {
  if (!(mass >= 0 && mass <= 1)) throw new DrawError(`mass is ${mass}; expected a number from 0 to 1.`);
  const order = Array.from(attention.values.keys()).sort((a, b) => attention.values[a]! - attention.values[b]!);
  const total = order.reduce((sum, patch) => sum + attention.values[patch]!, 0);
  const values = new Float32Array(attention.values.length);
  let sum = 0;
  for (const patch of order) {
    sum += attention.values[patch]!;
    values[patch] = sum > (1 - mass) * total ? 1 : 0;
  }
  return { ...attention, values };
}
