// Feature maps at four scales, which dense predictions ask of a backbone.
//
// A ViT has one scale. As in BEiT's and CAE's code, the outputs of four of its blocks, class token left out and without a norm, become
//   fpn1   deconvolution, batch norm, GELU, deconvolution: a quarter of the patch
//   fpn2   deconvolution: half the patch
//   fpn3   as it is
//   fpn4   max-pooling: twice the patch
// with kernels of 2 and strides of 2 throughout. A Swin has four scales already: each stage's output gets a LayerNorm (`norm0` to `norm3`,
// as in its code for segmentation and detection).
import { BatchNorm2d, ConvTranspose2d, GELU, LayerNorm, Module, Sequential, ShapeError } from "../nn/index.js";
import { maxPool2d, type Tensor, tidy } from "../torch/index.js";
import type { Encoder } from "./encoder.js";
import { SwinTransformer } from "./swin.js";

export interface PyramidConfig {
  /**
   * The four levels (blocks of a ViT, stages of a Swin, counted from 0, negative from the end) that are taken, from shallow to deep. Default:
   * for a ViT the blocks after a third, a half, two thirds and all of the depth, which is 3, 5, 7, 11 of 12 and 7, 11, 15, 23 of 24 as CAE
   * has them; for a Swin its four stages.
   */
  levels?: readonly number[] | undefined;
}

/** A backbone with what makes four feature maps of it. */
export interface Pyramid extends Module {
  readonly encoder: Encoder;
  /** Channels of each map, from the finest to the coarsest. */
  readonly widths: readonly number[];
  /** Pixels of the input behind one cell of each map, per side: 4, 8, 16, 32 of a ViT with patches of 16 and of a Swin with patches of 4. */
  readonly strides: readonly number[];
  /** The levels of the encoder that are taken. */
  readonly levels: readonly number[];
  /**
   * @param images [B, channels, H, W], sides as the encoder takes them
   * @returns maps [B, widths[i], H_i, W_i], finest first
   */
  forward(images: Tensor): Tensor[];
}

/** The pyramid over a ViT or a Swin. The encoder is part of it, under `encoder.` in its state dict. */
export function createPyramid(encoder: Encoder, config: PyramidConfig = {}): Pyramid {
  return encoder instanceof SwinTransformer ? new StagePyramid(encoder, config) : new BlockPyramid(encoder, config);
}

/** Numbers of levels from 0, after a check that there are four of them and that they exist. */
function checked(encoder: Encoder, levels: readonly number[], kind: string): number[] {
  if (levels.length !== 4) throw new ShapeError(`a feature pyramid takes four ${kind}s of the encoder, got ${levels.length}`);
  return levels.map((level) => {
    const index = level < 0 ? level + encoder.depth : level;
    if (!Number.isInteger(index) || index < 0 || index >= encoder.depth) {
      throw new ShapeError(`level ${level} does not exist: the encoder has ${kind}s 0 to ${encoder.depth - 1}`);
    }
    return index;
  });
}

/** The blocks that BEiT and CAE take of 12 and of 24, for any depth. */
function usualBlocks(depth: number): number[] {
  return [1 / 3, 1 / 2, 2 / 3, 1].map((part) => Math.max(0, Math.round(depth * part) - 1));
}

/** [B, rows * columns, C] -> [B, C, rows, columns] */
const toMap = (tokens: Tensor, grid: readonly [number, number]): Tensor => tokens.transpose(1, 2).unflatten(2, grid);

const deconvolution = (width: number) => new ConvTranspose2d(width, width, 2, { stride: 2 });

class BlockPyramid extends Module implements Pyramid {
  encoder: Encoder;
  fpn1: Sequential;
  fpn2: Sequential;
  readonly widths: readonly number[];
  readonly strides: readonly number[];
  readonly levels: readonly number[];

  constructor(encoder: Encoder, config: PyramidConfig) {
    super();
    const { width, stride, depth } = encoder;
    this.levels = checked(encoder, config.levels ?? usualBlocks(depth), "block");
    this.encoder = encoder;
    this.widths = [width, width, width, width];
    this.strides = [stride / 4, stride / 2, stride, 2 * stride];
    this.fpn1 = new Sequential(deconvolution(width), new BatchNorm2d(width), new GELU(), deconvolution(width));
    this.fpn2 = new Sequential(deconvolution(width));
  }

  forward(images: Tensor): Tensor[] {
    const { levels, grid } = this.encoder.call(images, { levels: this.levels });
    const [first, second, third, fourth] = levels.map((tokens) => toMap(tokens.slice(1, this.encoder.prefix), grid)) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    // A grid of one row or column has nothing to pool there.
    const coarse = maxPool2d(fourth, [Math.min(2, grid[0]), Math.min(2, grid[1])]);
    return [this.fpn1.call(first), this.fpn2.call(second), third, coarse];
  }
}

class StagePyramid extends Module implements Pyramid {
  encoder: Encoder;
  norm0: LayerNorm;
  norm1: LayerNorm;
  norm2: LayerNorm;
  norm3: LayerNorm;
  readonly widths: readonly number[];
  readonly strides: readonly number[];
  readonly levels: readonly number[];

  constructor(encoder: SwinTransformer, config: PyramidConfig) {
    super();
    this.levels = checked(encoder, config.levels ?? encoder.levelShapes.map((_, i) => i), "stage");
    const shapes = this.levels.map((level) => encoder.levelShapes[level]!);
    this.encoder = encoder;
    this.widths = shapes.map(({ width }) => width);
    this.strides = shapes.map(({ stride }) => stride);
    // torch's default, which Swin has, where ViTs have 1e-6.
    const [norm0, norm1, norm2, norm3] = this.widths.map((width) => new LayerNorm(width, { eps: 1e-5 })) as [
      LayerNorm,
      LayerNorm,
      LayerNorm,
      LayerNorm,
    ];
    this.norm0 = norm0;
    this.norm1 = norm1;
    this.norm2 = norm2;
    this.norm3 = norm3;
  }

  forward(images: Tensor): Tensor[] {
    const { levels } = this.encoder.call(images, { levels: this.levels });
    const [height, width] = images.shape.slice(2) as [number, number];
    const norms = [this.norm0, this.norm1, this.norm2, this.norm3];
    return levels.map((tokens, i) => {
      const stride = this.strides[i]!;
      return tidy(() => toMap(norms[i]!.call(tokens), [Math.ceil(height / stride), Math.ceil(width / stride)]));
    });
  }
}
