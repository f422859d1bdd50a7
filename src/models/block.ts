// One block of a Vision Transformer: attention and perceptron, each normalised before and added to what came in.
import {
  Attention,
  type AttentionConfig,
  type AttentionOptions,
  DropPath,
  LayerNorm,
  LayerScale,
  Mlp,
  Module,
  Residual,
  scaledBranch,
} from "../nn/index.js";
import { type Branch, cat, type Tensor, tidy } from "../torch/index.js";
import { checkpointed } from "./checkpointed.js";

export interface BlockConfig extends AttentionConfig {
  width: number;
  /** Hidden width of the perceptron over `width`. Default 4. */
  mlpRatio?: number;
  /** Probability to drop a residual branch. Default 0. */
  dropPath?: number;
  /** Start of the learned factor of each branch; none when left out. */
  layerScale?: number | undefined;
}

export type BlockOptions = AttentionOptions & { attend?: (normed: Tensor) => Tensor };

export class Block extends Module {
  norm1: LayerNorm;
  attn: Attention;
  ls1: LayerScale | null;
  norm2: LayerNorm;
  mlp: Mlp;
  ls2: LayerScale | null;
  readonly #dropPath: DropPath;

  constructor({ width, mlpRatio = 4, dropPath = 0, layerScale, ...attention }: BlockConfig) {
    super();
    this.norm1 = new LayerNorm(width);
    this.attn = new Attention(width, attention);
    this.ls1 = layerScale === undefined ? null : new LayerScale(width, layerScale);
    this.norm2 = new LayerNorm(width);
    this.mlp = new Mlp(width, Math.round(width * mlpRatio), { drop: attention.drop ?? 0 });
    this.ls2 = layerScale === undefined ? null : new LayerScale(width, layerScale);
    this.#dropPath = new DropPath(dropPath);
  }

  /**
   * @param x [B, N, C]
   * @param options.queries only the first n tokens go on: [B, n, C] comes out
   * @param options.mask added to the attention's scores
   * @param options.attend in place of the attention: what becomes of the normalised tokens [B, N, C]
   */
  forward(x: Tensor, options: BlockOptions = {}): Tensor {
    return this.flow(new Residual(x), options).value();
  }

  /**
   * As forward, for blocks one after another: the last branch is added with the next one's norm. Not a scope of its own, because the sum that
   * `stream` then holds belongs to the caller.
   */
  flow(stream: Residual, options: BlockOptions = {}): Residual {
    const normed = stream.normed(this.norm1);
    const attended = options.attend ? { x: options.attend(normed) } : this.attn.branch(normed, options);
    return this.#rest(stream.value(), attended);
  }

  /** As flow, and the attention weights [B, heads, n, N] beside it. */
  withAttention(stream: Residual, options: AttentionOptions = {}): { output: Residual; weights: Tensor } {
    const { output, weights } = this.attn.withWeights(stream.normed(this.norm1), options);
    return { output: this.#rest(stream.value(), { x: output }), weights };
  }

  #rest(x: Tensor, attended: Branch): Residual {
    const n = attended.x.size(1);
    const middle = new Residual(n === x.size(1) ? x : x.narrow(1, 0, n), this.#scaled(attended, this.ls1));
    const perceived = this.mlp.branch(middle.normed(this.norm2));
    return middle.plus(this.#scaled(perceived, this.ls2));
  }

  #scaled(branch: Branch, scale: LayerScale | null): Branch {
    this.#dropPath.training = this.training;
    return scaledBranch(branch, scale, this.#dropPath);
  }
}

/** How tokens go through blocks. */
interface Through {
  /** Backward computes each block again. Default false. */
  gradientCheckpointing?: boolean;
  /** Only the first n tokens come out of the last block. Default: all. */
  queries?: number;
}

/** What comes out of blocks one after another, [B, N, C], or of the first `queries` tokens, [B, n, C]. */
export function throughBlocks(
  blocks: readonly Block[],
  x: Tensor,
  { gradientCheckpointing = false, queries }: Through = {},
): Tensor {
  const last = blocks.at(-1);
  if (!last) return queries === undefined ? x : x.narrow(1, 0, queries);
  return tidy(() =>
    blocks
      .reduce(
        (stream, block) => throughBlock(block, stream, gradientCheckpointing, block === last ? { queries } : {}),
        new Residual(x),
      )
      .value(),
  );
}

function throughBlock(block: Block, stream: Residual, again: boolean, options: BlockOptions): Residual {
  if (!again) return tidy(() => block.flow(stream, options));
  return checkpointed((before) => ({ next: block.flow(before, options), before }), stream, {}).next;
}

/** A class token [1, 1, C] in front of patch tokens [B, N, C]. */
export function withClassToken(token: Tensor, patches: Tensor): Tensor {
  const [batch = 0, , width = 0] = patches.shape;
  return cat([token.expand([batch, 1, width]), patches], 1);
}
