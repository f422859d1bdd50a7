// What the methods and evaluations need to know of a backbone, whichever it is.
import type { Module } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";
import type { Grid } from "./position.js";

/** Patches of the input that are replaced by a learnable token, after the patch embedding and before positions are added. */
export interface TokenMask {
  /** bool [B, N] on the final grid: true where a patch, or all patches of a cell, are replaced. */
  where: Tensor;
  /** [embedWidth] */
  token: Tensor;
}

export interface EncodeOptions {
  /** Replace patches by a mask token. */
  mask?: TokenMask | undefined;
  /** Patch tokens with positions, as this encoder's or another one's `embedPatches` gives them, instead of the images' own. */
  embedded?: Tensor | undefined;
  /** Encode only these patches of each image: int64 [B, n], row-major patch numbers. */
  subset?: Tensor | undefined;
  /** Added to the scores of every block's attention, e.g. 0 and minus infinity; broadcasts to [B, heads, n, n] over the whole sequence. */
  attentionMask?: Tensor | undefined;
  /** Levels whose outputs are wanted, counted from 0 (negative from the end). They come as they leave the block, without the final norm. */
  levels?: readonly number[] | undefined;
  /** The last block's attention is wanted. */
  attention?: boolean | undefined;
  /** Only `feature` is wanted: where that is a class token, the last block is computed for it alone. Default false. */
  classOnly?: boolean | undefined;
}

export interface Encoded {
  /** The whole sequence after the final norm: class token (where there is one), then patches: [B, 1 + n, C]; [B, 1, C] with classOnly. */
  tokens: Tensor;
  /** The image's feature [B, C]: the class token where there is one, else the mean of the patches. */
  feature: Tensor;
  /** Patch tokens after the final norm [B, n, C]; null with classOnly. */
  patches: Tensor | null;
  /** The wanted levels, [B, 1 + n, C] each; n and C are the level's own. */
  levels: Tensor[];
  /**
   * Attention of the class token in the last block [B, heads, 1 + n], its own weight first; of an encoder without one the mean over all
   * queries, [B, heads, n]. Null unless wanted.
   */
  attention: Tensor | null;
  /** Rows and columns of patches of the input. */
  grid: Grid;
}

/** What comes out of one level of a backbone. */
export interface LevelShape {
  width: number;
  stride: number;
}

/** A backbone. */
export interface Encoder extends Module {
  /** What makes tokens of pixels; `proj` is its convolution. */
  readonly patchEmbed: Module & { readonly proj: Module };
  /** The norm at the end, where there is one that every level's class token fits. */
  readonly norm?: Module;
  /** Channels of its features. */
  readonly width: number;
  /** Channels of its patch tokens where a mask token may take their place. */
  readonly embedWidth: number;
  /** Pixels of the input behind one patch token, per side. */
  readonly stride: number;
  /** Pixels per side, or [height, width], that it is made for; others are taken as far as its grids allow. */
  readonly imageSize: number | readonly [number, number];
  /** Channels of the input images. */
  readonly channels: number;
  /** 1 when a class token comes before the patches, else 0. */
  readonly prefix: number;
  /** Number of levels: blocks of a ViT, stages of a Swin. */
  readonly depth: number;
  /** Channels of each level, and the pixels of the input behind one of its tokens, per side. */
  readonly levelShapes: readonly LevelShape[];
  /**
   * Keep only what goes from block to block for the backward pass, which computes each block again: less memory for one more forward pass of the
   * blocks. What comes out is the same. A switch, not part of the architecture; it can be set at any time. Default false.
   */
  gradientCheckpointing: boolean;
  forward(images: Tensor, options?: EncodeOptions): Encoded;
  /** Copies weights in by timm's names. */
  loadWeights(weights: ReadonlyMap<string, Tensor>): void;
}
