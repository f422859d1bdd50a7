// The two pictures every method has: what was hidden and restored, and where the encoder looks.
import { isTensor, type Tensor } from "../torch/index.js";
import { DrawError } from "./errors.js";
import { type GridOptions, grid, transposed } from "./grid.js";
import { enlarge, factorFor, imagesOf, type RgbImage } from "./image.js";
import { type HeatOptions, heatImage, keptImage, maskedImage, type PatchValues, patchGrids, topMass } from "./patches.js";

interface SampleOptions extends Pick<GridOptions, "cell" | "gap" | "background"> {
  /** At most so many samples of the batch. Default 8. */
  samples?: number;
  /** "down" (default): a sample is a row and columns have headings; "across": a sample is a column and rows have labels. */
  direction?: "down" | "across";
}

/** Enlarged before anything is drawn on it, so that hatching stays fine. */
export function readable(image: RgbImage, cell = 128): RgbImage {
  return enlarge(image, factorFor(Math.max(image.width, image.height), cell));
}

function sampleGrid(
  columns: readonly (readonly [heading: string, images: readonly RgbImage[]])[],
  options: SampleOptions,
): RgbImage {
  const { samples = 8, direction = "down", ...rest } = options;
  const headings = columns.map(([heading]) => heading);
  const cells = columns.map(([, images]) => images.slice(0, samples));
  return direction === "across"
    ? grid(cells, { ...rest, rows: headings })
    : grid(transposed(cells), { ...rest, columns: headings });
}

/** The first images of a batch, before the rest is turned into bytes. */
function firstImages(images: Tensor, name: string, { samples = 8, cell }: SampleOptions): RgbImage[] {
  if (!(Number.isInteger(samples) && samples > 0)) throw new DrawError(`samples is ${samples}; expected a whole number above 0.`);
  if (!isTensor(images) || images.ndim !== 4) return imagesOf(images, name);
  const part = images.narrow(0, 0, Math.min(samples, images.size(0)));
  const made = imagesOf(part, name).map((image) => readable(image, cell));
  part.dispose();
  return made;
}

function sameCount(name: string, count: number, of: string, expected: number): void {
  if (count !== expected)
    throw new DrawError(`${name} holds ${count} samples, ${of} ${expected}; they must be of the same batch.`);
}

export interface ReconstructionOptions extends SampleOptions {
  /** Images [B, C, H, W] with values from 0 to 1 (see denormalise). */
  original: Tensor;
  /** What is hidden (1 or true) by patch: [B, rows, columns], or [B, L] of a square grid. Left out: no such column. */
  mask?: Tensor;
  /** Images [B, C, H, W] with values from 0 to 1. */
  reconstruction: Tensor;
  /** Headings in place of "original", "masked", "restored". */
  headings?: readonly [string, string, string];
}

/** Original, what the encoder saw, and what came back, side by side. */
export function reconstructionGrid(options: ReconstructionOptions): RgbImage {
  const { original, mask, reconstruction, headings = ["original", "masked", "restored"], ...rest } = options;
  const originals = firstImages(original, "original", rest);
  const restored = firstImages(reconstruction, "reconstruction", rest);
  sameCount("reconstruction", reconstruction.size(0), "original", original.size(0));
  const columns: [string, RgbImage[]][] = [[headings[0], originals]];
  if (mask) {
    const masks = patchGrids(mask, "mask");
    sameCount("mask", masks.length, "original", original.size(0));
    columns.push([headings[1], originals.map((image, i) => maskedImage(image, masks[i]!))]);
  }
  columns.push([headings[2], restored]);
  return sampleGrid(columns, rest);
}

export interface AttentionOptions extends SampleOptions, HeatOptions {
  /** Images [B, C, H, W] with values from 0 to 1 (see denormalise). */
  image: Tensor;
  /** Attention of the class token to the patches, by head: [B, heads, rows, columns], or [B, heads, L] of a square grid. */
  attention: Tensor;
  /** Show the image only where the top share (0 to 1) of each head's attention lies, in place of colours; DINO uses 0.6. */
  mass?: number;
  /** Also show the mean over the heads. Default true where there are several. */
  mean?: boolean;
}

/** Each image, the mean attention and the attention of every head over it. */
export function attentionGrid(options: AttentionOptions): RgbImage {
  const { image, attention, mass, mean, colormap, alpha, range, ...rest } = options;
  const images = firstImages(image, "image", rest);
  const dims = isTensor(attention) ? attention.shape : [];
  if (dims.length !== 4 && dims.length !== 3) {
    throw new DrawError(
      `attention has shape [${dims.join(", ")}]; expected [B, heads, rows, columns], or [B, heads, L] where L is a square.`,
    );
  }
  sameCount("attention", dims[0]!, "image", image.size(0));
  const heads = dims[1]!;
  const flat = attention.flatten(0, 1);
  const maps = patchGrids(flat, "attention");
  flat.dispose();
  const heat: HeatOptions = { ...(colormap && { colormap }), ...(alpha !== undefined && { alpha }), ...(range && { range }) };
  const show = (under: RgbImage, map: PatchValues): RgbImage =>
    mass === undefined ? heatImage(under, map, heat) : keptImage(under, topMass(map, mass));
  const columns: [string, RgbImage[]][] = [["image", images]];
  if (mean ?? heads > 1)
    columns.push(["mean", images.map((each, b) => show(each, meanOf(maps.slice(b * heads, (b + 1) * heads))))]);
  for (let head = 0; head < heads; head++) {
    columns.push([`head ${head + 1}`, images.map((each, b) => show(each, maps[b * heads + head]!))]);
  }
  return sampleGrid(columns, rest);
}

function meanOf(maps: readonly PatchValues[]): PatchValues {
  const [first] = maps;
  const values = Float32Array.from(first!.values, (_, i) => maps.reduce((sum, map) => sum + map.values[i]!, 0) / maps.length);
  return { ...first!, values };
}
