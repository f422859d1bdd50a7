// Vision Transformer (Dosovitskiy et al., 2021) with the switches that the methods need. Parameter names and results are timm's.
import { buffer, Conv2d, LayerNorm, Module, parameter, Residual, ShapeError } from "../nn/index.js";
import { autocastDType, cat, empty, linear, type Tensor, tidy, usesFused, where, zeros } from "../torch/index.js";
import { Block, withClassToken } from "./block.js";
import { checkpointed, type ThroughBlock } from "./checkpointed.js";
import type { Encoded, EncodeOptions, Encoder, LevelShape } from "./encoder.js";
import { attendInWindows, globalBlocksOf } from "./global-blocks.js";
import { gatherTokens } from "./patches.js";
import { type Grid, type PositionResize, resizePositions, type SinCosOptions, sinCosPositions } from "./position.js";
import { biasRows, RelativeIndex, RelativePositionBias, resizeBiasTable } from "./relative-position.js";
import { initVit, type VitInit } from "./vit-init.js";
import { type Cut, cutOf } from "./windows.js";

export interface VitConfig {
  /** Pixels per side (or [height, width]) that the positions are made for; other sizes are taken by interpolating them. Default 224. */
  imageSize?: number | readonly [number, number];
  /** Pixels of a patch's side. Default 16. */
  patchSize?: number;
  /** Channels of the images. Default 3. */
  channels?: number;
  /** Default 384 (ViT-S). */
  width?: number;
  /** Default 12. */
  depth?: number;
  /** Default width / 64, at least 1. */
  heads?: number;
  /** Default 4. */
  mlpRatio?: number;
  /** `learned` (default), or fixed sines and cosines. */
  positions?: "learned" | "sin-cos";
  /** Order and temperature of fixed positions. */
  sinCos?: SinCosOptions;
  /** How positions are resized for other image sizes: see position.ts. Default exact. */
  interpolation?: PositionResize;
  /** Learned biases of attention by relative position (BEiT): a table in each `block`, one that all `share`, or none (default). */
  relPosBias?: "none" | "block" | "shared";
  /** Attention inside windows of so many patches a side, for large images (ViTDet: 14); 0 for none. Default 0. */
  windowSize?: number;
  /** The blocks that see the whole image nevertheless; negative from the end. Default: the last of each quarter, ViTDet's. */
  globalBlocks?: readonly number[];
  /** A class token before the patches. Default true. */
  classToken?: boolean;
  /** Bias of q, k, v. Default true. */
  qkvBias?: boolean;
  /** Bias of k. Default true; CAE has none. */
  keyBias?: boolean;
  /** Start of layer scale; none when left out. CAE: 0.1. */
  layerScale?: number;
  /** Drop-path probability of the last block; grows linearly with depth from 0 in the first. Default 0. */
  dropPath?: number;
  /** Default `dino` (truncated normal, std 0.02). */
  init?: VitInit;
}

/** The published sizes. */
export const vitSizes = {
  tiny: { width: 192, depth: 12, heads: 3 },
  small: { width: 384, depth: 12, heads: 6 },
  base: { width: 768, depth: 12, heads: 12 },
  large: { width: 1024, depth: 24, heads: 16 },
} as const;

class PatchEmbed extends Module {
  proj: Conv2d;
  constructor(channels: number, width: number, patchSize: number) {
    super();
    this.proj = new Conv2d(channels, width, patchSize, { stride: patchSize });
  }
  /** [B, channels, H, W] -> [B, N, C], patches row by row; with `subset` [B, n] only those, [B, n, C]. */
  forward(images: Tensor, subset?: Tensor): Tensor {
    const chosen = (rows: Tensor) => (subset ? gatherTokens(rows, subset) : rows);
    if (images.device !== "cpu" || !usesFused()) return chosen(this.proj.call(images).flatten(2).transpose(1, 2));
    // Patches do not overlap: the convolution is a linear layer of their pixels, whose gradient costs a fifth of the convolution's.
    const { weight, bias } = this.proj;
    const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
    const patch = weight.size(-1);
    const pixels = images
      .to(autocastDType() ?? images.dtype)
      .view([batch, channels, height / patch, patch, width / patch, patch])
      .permute([0, 2, 4, 1, 3, 5])
      .reshape([batch, -1, channels * patch * patch]);
    return linear(chosen(pixels), weight.flatten(1), bias);
  }
}

/** Which patches become tokens. */
type PatchOptions = Pick<EncodeOptions, "mask" | "subset">;

/** What has no default that could be written down. */
type Optional = "layerScale" | "sinCos" | "windowSize" | "globalBlocks";

export class VisionTransformer extends Module implements Encoder {
  clsToken: Tensor | null;
  posEmbed: Tensor;
  patchEmbed: PatchEmbed;
  relPosBias: RelativePositionBias | null;
  blocks: Block[];
  norm: LayerNorm;
  readonly config: Readonly<Required<Omit<VitConfig, Optional>> & Pick<VitConfig, Optional>>;
  readonly width: number;
  readonly depth: number;
  readonly stride: number;
  readonly channels: number;
  readonly prefix: number;
  gradientCheckpointing = false;
  /** Rows and columns of patches that the positions are made for. */
  readonly positionGrid: Grid;
  /** Patches of a window's side, and which blocks have none; null where all see everything. */
  readonly #windows: { size: number; global: ReadonlySet<number> } | null;
  readonly #relative: RelativeIndex;

  constructor(config: VitConfig = {}) {
    super();
    const { imageSize = 224, patchSize = 16, channels = 3, width = 384, depth = 12, mlpRatio = 4, classToken = true } = config;
    const {
      positions = "learned",
      interpolation = "exact",
      relPosBias = "none",
      qkvBias = true,
      keyBias = true,
      dropPath = 0,
      init = "dino",
    } = config;
    const heads = config.heads ?? Math.max(1, Math.round(width / 64));
    this.config = {
      ...config,
      imageSize,
      patchSize,
      channels,
      width,
      depth,
      heads,
      mlpRatio,
      classToken,
      positions,
      interpolation,
      relPosBias,
      qkvBias,
      keyBias,
      dropPath,
      init,
    };
    const [height, imageWidth] = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    if (height % patchSize !== 0 || imageWidth % patchSize !== 0) {
      throw new ShapeError(`the image size ${height}x${imageWidth} must be a multiple of the patch size, ${patchSize}`);
    }
    this.positionGrid = [height / patchSize, imageWidth / patchSize];
    const { windowSize = 0, globalBlocks } = config;
    if (!Number.isInteger(windowSize) || windowSize < 0)
      throw new ShapeError(`windowSize is ${windowSize}; expected a whole number of patches, or 0 for no windows`);
    this.#windows = windowSize > 0 ? { size: windowSize, global: new Set(globalBlocksOf(depth, globalBlocks)) } : null;
    this.width = width;
    this.depth = depth;
    this.stride = patchSize;
    this.channels = channels;
    this.prefix = classToken ? 1 : 0;
    const count = this.positionGrid[0] * this.positionGrid[1];
    this.clsToken = classToken ? parameter(zeros([1, 1, width])) : null;
    this.posEmbed =
      positions === "learned"
        ? parameter(empty([1, this.prefix + count, width]))
        : buffer(
            tidy(() => {
              const fixed = sinCosPositions(this.positionGrid, width, config.sinCos).unsqueeze(0);
              return classToken ? cat([zeros([1, 1, width]), fixed], 1) : fixed.contiguous();
            }),
          );
    this.patchEmbed = new PatchEmbed(channels, width, patchSize);
    this.#relative = new RelativeIndex(this.positionGrid, this.prefix);
    const rows = biasRows(this.positionGrid, this.prefix);
    this.relPosBias = relPosBias === "shared" ? new RelativePositionBias(rows, heads) : null;
    this.blocks = Array.from(
      { length: depth },
      (_, i) =>
        new Block({
          width,
          heads,
          mlpRatio,
          qkvBias,
          keyBias,
          biasRows: relPosBias === "block" ? rows : undefined,
          layerScale: config.layerScale,
          dropPath: (dropPath * i) / Math.max(1, depth - 1),
        }),
    );
    this.norm = new LayerNorm(width);
    initVit(this, init);
  }

  get imageSize(): number | readonly [number, number] {
    return this.config.imageSize;
  }
  get embedWidth(): number {
    return this.width;
  }

  /** All blocks give tokens of one width, on one grid. */
  get levelShapes(): LevelShape[] {
    return this.blocks.map(() => ({ width: this.width, stride: this.stride }));
  }

  /** Rows and columns of patches for images of this size. */
  gridOf(images: Tensor): Grid {
    const [, channels, height = 0, width = 0] = images.shape;
    const patch = this.config.patchSize;
    if (images.ndim !== 4 || channels !== this.channels) {
      throw new ShapeError(`the encoder expects images [B, ${this.channels}, H, W], got [${images.shape.join(", ")}]`);
    }
    if (height % patch !== 0 || width % patch !== 0 || height === 0 || width === 0) {
      throw new ShapeError(`image height and width must be multiples of the patch size ${patch}, got ${height}x${width}`);
    }
    return [height / patch, width / patch];
  }

  /** Positions for a grid, [1, prefix + rows * columns, C]. */
  positionsFor(grid: Grid): Tensor {
    return resizePositions(this.posEmbed, this.positionGrid, grid, this.prefix, this.config.interpolation);
  }

  /**
   * Patch embedding, mask tokens, positions: [B, N, C], or of a subset [B, n, C]. The same in two encoders that share a frozen projection and fixed
   * positions.
   */
  embedPatches(images: Tensor, { mask, subset, positions }: PatchOptions & { positions?: Tensor } = {}): Tensor {
    return tidy(() => {
      let patches = this.patchEmbed.call(images, subset);
      if (mask) {
        const hidden = subset ? mask.where.gather(1, subset) : mask.where;
        // In the patch embedding's dtype, so that a mask token does not widen a half-precision sequence.
        patches = where(hidden.unsqueeze(-1), mask.token.to(patches.dtype), patches);
      }
      const places = (positions ?? this.positionsFor(this.gridOf(images))).slice(1, this.prefix);
      return patches.add(subset ? gatherTokens(places, subset) : places);
    });
  }

  /** What goes into the first block: patch embedding, mask tokens, positions, the subset, the class token. [B, prefix + n, C] */
  embed(images: Tensor, { mask, subset, embedded }: PatchOptions & Pick<EncodeOptions, "embedded"> = {}): Tensor {
    return tidy(() => {
      const positions = this.positionsFor(this.gridOf(images));
      const given = embedded && subset ? gatherTokens(embedded, subset) : embedded;
      const patches = given ?? this.embedPatches(images, { mask, subset, positions });
      if (!this.clsToken) return patches;
      return withClassToken(this.clsToken.add(positions.slice(1, 0, 1)), patches);
    });
  }

  /** @param images [B, channels, H, W] */
  forward(images: Tensor, options: EncodeOptions = {}): Encoded {
    const { levels = [], classOnly = false } = options;
    const wanted = levels.map((level) => {
      const index = level < 0 ? level + this.depth : level;
      if (!Number.isInteger(index) || index < 0 || index >= this.depth) {
        throw new RangeError(`level ${level} does not exist: the encoder has blocks 0 to ${this.depth - 1}`);
      }
      return index;
    });
    const last = this.depth - 1;
    // A wanted last level needs all its tokens.
    const queries = classOnly && this.clsToken && !wanted.includes(last) ? 1 : undefined;
    const grid = this.gridOf(images);
    const windows = this.#cut(grid, options);
    const shared = this.#bias(this.relPosBias?.relativePositionBiasTable, grid, options.attentionMask, options);
    let stream = new Residual(this.embed(images, options));
    let weights: Tensor | null = null;
    const outputs = new Map<number, Residual>();
    for (let i = 0; i < this.depth; i++) {
      const before = stream;
      const run = this.#through(i, grid, windows, options, i === last ? queries : undefined);
      // The block sums the stream before with its first norm: as a level may be wanted of it, the sum goes out of the scope with the result.
      const through = this.gradientCheckpointing
        ? checkpointed(run, before, { shared }, { sum: wanted.includes(i - 1) })
        : tidy(() => run(before, { shared }));
      if (wanted.includes(i - 1)) outputs.set(i - 1, through.before);
      stream = through.next;
      weights = through.row ?? null;
      if (wanted.includes(i)) outputs.set(i, stream);
    }
    const x = stream.value();
    const normed = this.norm.call(classOnly && this.clsToken ? x.narrow(1, 0, 1) : x);
    const patches = classOnly ? null : normed.slice(1, this.prefix);
    return {
      tokens: normed,
      feature: this.clsToken ? normed.select(1, 0) : normed.mean(1),
      patches,
      levels: wanted.map((index) => outputs.get(index)!.value()),
      attention: weights,
      grid,
    };
  }

  /** What the i-th block does, for its first `queries` tokens; attention of the last one on request. */
  #through(
    i: number,
    grid: Grid,
    windows: { cut: Cut; global: ReadonlySet<number> } | null,
    options: EncodeOptions,
    queries: number | undefined,
  ): (before: Residual, others: { shared: Tensor | undefined }) => ThroughBlock {
    const block = this.blocks[i]!;
    return (before, { shared }) => {
      const { relativePositionBiasTable: table } = block.attn;
      if (windows && !windows.global.has(i)) {
        const { window } = windows.cut;
        const among = this.#bias(this.relPosBias?.relativePositionBiasTable, window, undefined, options);
        const mask = this.#bias(table, window, among, options);
        const attend = (y: Tensor) => attendInWindows(block.attn, y, grid, windows.cut, { prefix: this.prefix, mask });
        return { next: block.flow(before, { attend }), before };
      }
      const all = this.#bias(table, grid, shared, options);
      const mask = all && queries !== undefined && all.size(-2) > queries ? all.narrow(-2, 0, queries) : all;
      if (i + 1 !== this.depth || !options.attention) return { next: block.flow(before, { mask, queries }), before };
      const { output, weights } = block.withAttention(before, { queries, mask });
      return { next: output, before, row: this.clsToken ? weights.select(2, 0) : weights.mean(2) };
    };
  }

  /** How a grid is cut into windows; null where it is not. */
  #cut(grid: Grid, { subset, attentionMask }: EncodeOptions): { cut: Cut; global: ReadonlySet<number> } | null {
    if (!this.#windows) return null;
    if (subset || attentionMask) {
      throw new ShapeError(
        "attention inside windows needs all patches of an image and no mask: leave out subset and attentionMask",
      );
    }
    const { size, global } = this.#windows;
    return { cut: cutOf(grid, [size, size], false), global };
  }

  /** What a table says of a grid, added to `others`; without a table only those. */
  #bias(
    table: Tensor | null | undefined,
    grid: Grid,
    others: Tensor | undefined,
    { subset }: Pick<EncodeOptions, "subset">,
  ): Tensor | undefined {
    if (!table) return others;
    if (subset) throw new ShapeError("biases by relative position need all patches of an image: leave out subset, or relPosBias");
    return tidy(() => {
      const bias = this.#relative.bias(table, grid);
      return others ? bias.add(others) : bias;
    });
  }

  /** Copies an encoder's tensors in; learned positions made for another grid are interpolated (`from`; else this one if the count fits, else a square). */
  loadWeights(weights: ReadonlyMap<string, Tensor>, from?: Grid): void {
    tidy(() => {
      const values = new Map(weights);
      const positions = weights.get("pos_embed");
      const count = positions ? positions.size(1) - this.prefix : 0;
      const [rows, columns] = this.positionGrid;
      const side = Math.round(Math.sqrt(count));
      const grid = from ?? (count === rows * columns ? this.positionGrid : ([side, side] as const));
      if (positions && (grid[0] !== rows || grid[1] !== columns)) {
        const { positions: kind, interpolation } = this.config;
        const resized = () => resizePositions(positions.float(), grid, this.positionGrid, this.prefix, interpolation);
        // Fixed ones were made for this grid already.
        values.set("pos_embed", kind === "sin-cos" ? this.posEmbed : resized());
      }
      for (const [name, own] of this.stateDict()) {
        if (!name.endsWith("relative_position_bias_table")) continue;
        // Pre-training mostly has none: they are learnt from zero then.
        const table = weights.get(name) ?? own;
        const origin = table.size(0) === own.size(0) ? this.positionGrid : from;
        values.set(name, resizeBiasTable(table.float(), origin, this.positionGrid, this.prefix, name));
      }
      this.loadStateDict(values);
    });
  }
}
