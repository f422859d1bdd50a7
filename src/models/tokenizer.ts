// What methods need to know of a tokenizer, whichever it is: images to code numbers, one a cell, and back.
import { type Module, ShapeError } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";

/** Makes a grid of code numbers of an image, and an image of such a grid. None of its methods records history. */
export interface Tokenizer extends Module {
  /** Number of codes. */
  readonly vocabulary: number;
  /** Pixels of an image behind one code, per side. */
  readonly stride: number;
  /** Channels of the images. */
  readonly channels: number;
  /** Whether it can make images of codes: false where only its encoder is there. */
  readonly decodes: boolean;
  /**
   * @param images [B, channels, H, W], values in 0..1 (not normalised), H and W multiples of `stride`
   * @returns int64 [B, H / stride, W / stride]
   */
  encode(images: Tensor): Tensor;
  /**
   * As `encode`, but only the codes of these cells, counted row by row, are made.
   *
   * @param positions int64 [B, n]
   * @returns int64 [B, n]
   */
  encodeAt?(images: Tensor, positions: Tensor): Tensor;
  /** Code numbers, int64 [B, rows, columns] -> images [B, channels, H, W] in 0..1 */
  decode(ids: Tensor): Tensor;
}

const shapeOf = (tensor: Tensor) => `[${tensor.shape.join(", ")}]`;

/** @throws ShapeError unless these are images that the tokenizer takes */
export function checkImages({ channels, stride }: Tokenizer, images: Tensor): void {
  const [, given, height = 0, width = 0] = images.shape;
  if (images.shape.length !== 4 || given !== channels || height % stride !== 0 || width % stride !== 0) {
    throw new ShapeError(
      `the tokenizer was given images ${shapeOf(images)}; expected [B, ${channels}, H, W] with H and W multiples of ${stride}`,
    );
  }
}

/** @throws ShapeError unless these are cells of those images, as a tensor of that shape */
export function checkPositions(images: Tensor, positions: Tensor): void {
  if (positions.shape.length === 2 && positions.size(0) === images.size(0) && positions.dtype === "int64") return;
  throw new ShapeError(
    `the tokenizer was given positions ${positions.dtype} ${shapeOf(positions)}; expected int64 [${images.size(0)}, n]`,
  );
}

/** @throws ShapeError unless this is a grid of code numbers */
export function checkCells({ vocabulary }: Tokenizer, ids: Tensor): void {
  if (ids.shape.length === 3 && ids.dtype === "int64") return;
  throw new ShapeError(
    `the tokenizer was given codes ${ids.dtype} ${shapeOf(ids)}; expected int64 [B, rows, columns], numbers below ${vocabulary}`,
  );
}
