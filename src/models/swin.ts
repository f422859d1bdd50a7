// Swin Transformer (Liu et al., 2021): attention inside windows that shift from block to block, on a grid that gets coarser from stage to
// stage. Parameter names and results are timm's.
import { Conv2d, DropPath, init, LayerNorm, Linear, Mlp, Module, ShapeError } from "../nn/index.js";
import { checkpoint, interpolate, keep, noGrad, pad, type Tensor, tidy, where } from "../torch/index.js";
import type { Encoded, EncodeOptions, Encoder, LevelShape } from "./encoder.js";
import { spreadCells } from "./patches.js";
import type { Grid } from "./position.js";
import { type Window, WindowAttention } from "./window-attention.js";
import { type Cut, cutOf, fromWindows, shiftMask, toWindows } from "./windows.js";

export interface SwinConfig {
  /** Pixels per side (or [height, width]) that windows and their bias tables are made for; other sizes are taken as they come. Default 224. */
  imageSize?: number | readonly [number, number];
  /** Pixels of a patch's side. Default 4. */
  patchSize?: number;
  /** Channels of the images. Default 3. */
  channels?: number;
  /** Channels of the first stage; they double from stage to stage. Default 96 (Swin-T). */
  embedDim?: number;
  /** Blocks of each stage. Default [2, 2, 6, 2]. */
  depths?: readonly number[];
  /** Heads of each stage. Default embedDim / 32 in the first, doubling. */
  heads?: readonly number[];
  /** Tokens of a window's side. Default 7. */
  windowSize?: number;
  /** Default 4. */
  mlpRatio?: number;
  /** Bias of q, k, v. Default true. */
  qkvBias?: boolean;
  /** Drop-path probability of the last block; grows linearly over all blocks from 0 in the first. Default 0. */
  dropPath?: number;
}

/** The published sizes. */
export const swinSizes = {
  tiny: { embedDim: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24] },
  small: { embedDim: 96, depths: [2, 2, 18, 2], heads: [3, 6, 12, 24] },
  base: { embedDim: 128, depths: [2, 2, 18, 2], heads: [4, 8, 16, 32] },
} as const;

/** torch's default, which timm's Swin has, where ViTs have 1e-6. */
const EPS = 1e-5;

class PatchEmbed extends Module {
  proj: Conv2d;
  norm: LayerNorm;
  constructor(channels: number, width: number, patchSize: number) {
    super();
    this.proj = new Conv2d(channels, width, patchSize, { stride: patchSize });
    this.norm = new LayerNorm(width, { eps: EPS });
  }
  /** [B, channels, H, W] -> [B, rows, columns, C] */
  forward(images: Tensor): Tensor {
    return this.norm.call(this.proj.call(images).permute([0, 2, 3, 1]));
  }
}

/** Neighbours in squares of two, side by side, to twice the channels. */
class PatchMerging extends Module {
  norm: LayerNorm;
  reduction: Linear;
  constructor(width: number) {
    super();
    this.norm = new LayerNorm(4 * width, { eps: EPS });
    this.reduction = new Linear(4 * width, 2 * width, { bias: false });
  }
  /** [B, H, W, C] -> [B, H / 2, W / 2, 2 C]; odd sides are filled up with zeros */
  forward(x: Tensor): Tensor {
    const [batch = 0, rows = 0, columns = 0, width = 0] = x.shape;
    const even = rows % 2 || columns % 2 ? pad(x, [0, 0, 0, columns % 2, 0, rows % 2]) : x;
    const [h, w] = [Math.ceil(rows / 2), Math.ceil(columns / 2)];
    const squares = even.reshape([batch, h, 2, w, 2, width]).permute([0, 1, 3, 4, 2, 5]).flatten(3);
    return this.reduction.call(this.norm.call(squares));
  }
}

interface BlockOptions {
  width: number;
  heads: number;
  window: Window;
  shifted: boolean;
  mlpRatio: number;
  qkvBias: boolean;
  dropPath: number;
}

class SwinBlock extends Module {
  norm1: LayerNorm;
  attn: WindowAttention;
  norm2: LayerNorm;
  mlp: Mlp;
  readonly #dropPath: DropPath;
  readonly #shifted: boolean;
  readonly #masks = new Map<string, Tensor | null>();

  constructor({ width, heads, window, shifted, mlpRatio, qkvBias, dropPath }: BlockOptions) {
    super();
    this.norm1 = new LayerNorm(width, { eps: EPS });
    this.attn = new WindowAttention(width, heads, window, { qkvBias });
    this.norm2 = new LayerNorm(width, { eps: EPS });
    this.mlp = new Mlp(width, Math.round(width * mlpRatio));
    this.#shifted = shifted;
    this.#dropPath = new DropPath(dropPath);
  }

  /** [B, H, W, C] -> the same, and with `attention` how much each token is looked at: the mean over its window's queries, [B, heads, H W]. */
  forward(x: Tensor, attention = false): { output: Tensor; attention: Tensor | null } {
    this.#dropPath.training = this.training;
    const [batch = 0, rows = 0, columns = 0, width = 0] = x.shape;
    const cut = cutOf([rows, columns], this.attn.window, this.#shifted);
    const bias = this.attn.bias(cut.window);
    const mask = this.#mask([rows, columns], cut, x);
    const windows = toWindows(this.norm1.call(x), cut);
    const { output, weights } = this.attn.call(windows, mask ? mask.add(bias) : bias);
    const attended = fromWindows(output, [rows, columns], cut);
    const middle = x.add(this.#dropPath.call(attended));
    const flat = this.mlp.call(this.norm2.call(middle).view([batch, rows * columns, width])).view(middle.shape);
    return {
      output: middle.add(this.#dropPath.call(flat)),
      attention: attention
        ? fromWindows(weights.mean(2).transpose(1, 2), [rows, columns], cut).flatten(1, 2).transpose(1, 2)
        : null,
    };
  }

  /** The mask of a grid's shifted windows, made once. */
  #mask(grid: Grid, cut: Cut, like: Tensor): Tensor | null {
    const key = grid.join();
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const made = shiftMask(grid, cut);
    const mask = made && keep(made.to(like.device));
    this.#masks.set(key, mask);
    return mask;
  }
}

/** As block.call, of which only x is kept for the backward pass. */
function throughAgain(block: SwinBlock, x: Tensor, wanted: boolean): ReturnType<SwinBlock["forward"]> {
  const [output, attention = null] = checkpoint([x], (given) => {
    const result = block.call(given, wanted);
    return result.attention ? [result.output, result.attention] : [result.output];
  });
  return { output: output!, attention };
}

class SwinStage extends Module {
  downsample: PatchMerging | null;
  blocks: SwinBlock[];

  constructor(downsample: PatchMerging | null, blocks: SwinBlock[]) {
    super();
    this.downsample = downsample;
    this.blocks = blocks;
  }

  /** [B, H, W, C] -> the stage's output; attention of the last block on request; `again`: blocks are computed again in the backward pass */
  forward(x: Tensor, attention = false, again = false): { output: Tensor; attention: Tensor | null } {
    let result: { output: Tensor; attention: Tensor | null } = {
      output: this.downsample ? this.downsample.call(x) : x,
      attention: null,
    };
    for (const [i, block] of this.blocks.entries()) {
      const wanted = attention && i + 1 === this.blocks.length;
      result = again ? throughAgain(block, result.output, wanted) : block.call(result.output, wanted);
    }
    return result;
  }
}

export class SwinTransformer extends Module implements Encoder {
  patchEmbed: PatchEmbed;
  layers: SwinStage[];
  norm: LayerNorm;
  readonly config: Readonly<Required<SwinConfig>>;
  readonly width: number;
  readonly embedWidth: number;
  readonly stride: number;
  readonly channels: number;
  readonly prefix = 0;
  gradientCheckpointing = false;
  readonly depth: number;
  readonly levelShapes: readonly LevelShape[];

  constructor(config: SwinConfig = {}) {
    super();
    const { imageSize = 224, patchSize = 4, channels = 3, embedDim = 96, depths = [2, 2, 6, 2], windowSize = 7 } = config;
    const { mlpRatio = 4, qkvBias = true, dropPath = 0 } = config;
    const heads = config.heads ?? depths.map((_, i) => Math.max(1, Math.round(embedDim / 32)) * 2 ** i);
    if (heads.length !== depths.length || depths.length === 0) {
      throw new ShapeError(`a Swin of ${depths.length} stages needs as many numbers of heads, got ${heads.length}`);
    }
    this.config = { imageSize, patchSize, channels, embedDim, depths, heads, windowSize, mlpRatio, qkvBias, dropPath };
    this.channels = channels;
    this.embedWidth = embedDim;
    this.depth = depths.length;
    this.levelShapes = depths.map((_, i) => ({ width: embedDim * 2 ** i, stride: patchSize * 2 ** i }));
    const last = this.levelShapes.at(-1)!;
    this.width = last.width;
    this.stride = last.stride;
    const sides = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    this.patchEmbed = new PatchEmbed(channels, embedDim, patchSize);
    const blocks = depths.reduce((sum, depth) => sum + depth, 0);
    let index = 0;
    this.layers = depths.map((depth, stage) => {
      const { width, stride } = this.levelShapes[stage]!;
      // Tables are no larger than the grid that they are made for, which timm takes without what merging fills up.
      const window = sides.map((side) => Math.min(windowSize, Math.max(1, Math.floor(side! / stride)))) as unknown as Window;
      const made = Array.from({ length: depth }, (_, i) => {
        const rate = (dropPath * index++) / Math.max(1, blocks - 1);
        return new SwinBlock({ width, heads: heads[stage]!, window, shifted: i % 2 === 1, mlpRatio, qkvBias, dropPath: rate });
      });
      return new SwinStage(stage === 0 ? null : new PatchMerging(width / 2), made);
    });
    this.norm = new LayerNorm(this.width, { eps: EPS });
    noGrad(() =>
      this.apply((module) => {
        if (!(module instanceof Linear)) return;
        init.truncNormal_(module.weight);
        if (module.bias) init.constant_(module.bias, 0);
      }),
    );
  }

  get imageSize(): number | readonly [number, number] {
    return this.config.imageSize;
  }

  /** Rows and columns of the last stage for images of this size. */
  gridOf(images: Tensor): Grid {
    const [, channels, height = 0, width = 0] = images.shape;
    const { patchSize } = this.config;
    if (images.ndim !== 4 || channels !== this.channels) {
      throw new ShapeError(`the encoder expects images [B, ${this.channels}, H, W], got [${images.shape.join(", ")}]`);
    }
    if (height % patchSize !== 0 || width % patchSize !== 0 || height === 0 || width === 0) {
      throw new ShapeError(`image height and width must be multiples of the patch size ${patchSize}, got ${height}x${width}`);
    }
    return [Math.ceil(height / this.stride), Math.ceil(width / this.stride)];
  }

  /** @param images [B, channels, H, W] */
  forward(images: Tensor, options: EncodeOptions = {}): Encoded {
    const { levels = [], attention = false, classOnly = false, mask } = options;
    if (options.subset || options.embedded || options.attentionMask) {
      throw new ShapeError("a Swin encodes whole images in windows: token subsets, given tokens and attention masks need a ViT");
    }
    const wanted = levels.map((level) => {
      const index = level < 0 ? level + this.depth : level;
      if (!Number.isInteger(index) || index < 0 || index >= this.depth) {
        throw new RangeError(`level ${level} does not exist: the encoder has stages 0 to ${this.depth - 1}`);
      }
      return index;
    });
    const grid = this.gridOf(images);
    let x = this.patchEmbed.call(images);
    if (mask) x = where(this.#spread(mask.where, grid, x), mask.token.to(x.dtype), x);
    let weights: Tensor | null = null;
    const outputs = new Map<number, Tensor>();
    for (const [i, stage] of this.layers.entries()) {
      const result = stage.call(x, attention && i + 1 === this.depth, this.gradientCheckpointing);
      x = result.output;
      weights = result.attention;
      if (wanted.includes(i)) outputs.set(i, x.flatten(1, 2));
    }
    const normed = this.norm.call(x).flatten(1, 2);
    const feature = normed.mean(1);
    return {
      tokens: normed,
      feature,
      patches: classOnly ? null : normed,
      levels: wanted.map((index) => outputs.get(index)!),
      attention: weights,
      grid,
    };
  }

  /** A truth for each cell of the last grid [B, N] as one for each patch, [B, rows, columns, 1]. */
  #spread(cells: Tensor, grid: Grid, patches: Tensor): Tensor {
    const [, height = 0, width = 0] = patches.shape;
    const wide = spreadCells(cells, grid, 2 ** (this.depth - 1));
    return wide.narrow(1, 0, height).narrow(2, 0, width).unsqueeze(-1);
  }

  /**
   * Copies an encoder's tensors in. Bias tables that were made for larger windows give their middle, which holds the offsets that are left;
   * those made for smaller ones are interpolated.
   */
  loadWeights(weights: ReadonlyMap<string, Tensor>): void {
    tidy(() => {
      const values = new Map(weights);
      for (const [stage, { blocks }] of this.layers.entries()) {
        for (const [i, { attn }] of blocks.entries()) {
          const name = `layers.${stage}.blocks.${i}.attn.relative_position_bias_table`;
          const given = weights.get(name);
          if (given && given.size(0) !== attn.relativePositionBiasTable.size(0)) {
            values.set(name, resizeTable(given.float(), attn.window, name));
          }
        }
      }
      this.loadStateDict(values);
    });
  }
}

/** A square window's bias table for another window: cut where that is smaller, bicubic (as Swin's own code) where it is larger. */
function resizeTable(table: Tensor, window: Window, name: string): Tensor {
  const side = Math.sqrt(table.size(0));
  if (!Number.isInteger(side) || side % 2 === 0) {
    const expected = `those of windows of ${window.join(" x ")} tokens or of a square window`;
    throw new ShapeError(`${name} has ${table.size(0)} rows; expected ${expected}`);
  }
  let image = table.transpose(0, 1).reshape([1, table.size(1), side, side]);
  for (const [axis, tokens] of window.entries()) {
    const wanted = 2 * tokens - 1;
    if (wanted < side) image = image.narrow(2 + axis, (side - wanted) / 2, wanted);
  }
  const size = [2 * window[0] - 1, 2 * window[1] - 1] as const;
  if (size[0] > image.size(2) || size[1] > image.size(3)) image = interpolate(image, { size, mode: "bicubic" });
  return image.flatten(2).select(0, 0).transpose(0, 1);
}
