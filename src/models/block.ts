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
} from "../nn/index.js";
import { cat, type Tensor } from "../torch/index.js";

export interface BlockConfig extends AttentionConfig {
  width: number;
  /** Hidden width of the perceptron over `width`. Default 4. */
  mlpRatio?: number;
  /** Probability to drop a residual branch. Default 0. */
  dropPath?: number;
  /** Start of the learned factor of each branch; none when left out. */
  layerScale?: number | undefined;
}

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
  forward(x: Tensor, options: AttentionOptions & { attend?: (normed: Tensor) => Tensor } = {}): Tensor {
    const normed = this.norm1.call(x);
    return this.#rest(x, options.attend ? options.attend(normed) : this.attn.call(normed, options));
  }

  /** As forward, and the attention weights [B, heads, n, N] beside it. */
  withAttention(x: Tensor, options: AttentionOptions = {}): { output: Tensor; weights: Tensor } {
    const { output, weights } = this.attn.withWeights(this.norm1.call(x), options);
    return { output: this.#rest(x, output), weights };
  }

  #rest(x: Tensor, attended: Tensor): Tensor {
    const n = attended.size(1);
    const from = n === x.size(1) ? x : x.narrow(1, 0, n);
    const middle = from.add(this.#branch(attended, this.ls1));
    return middle.add(this.#branch(this.mlp.call(this.norm2.call(middle)), this.ls2));
  }

  #branch(x: Tensor, scale: LayerScale | null): Tensor {
    this.#dropPath.training = this.training;
    return this.#dropPath.call(scale ? scale.call(x) : x);
  }
}

/** A class token [1, 1, C] in front of patch tokens [B, N, C]. */
export function withClassToken(token: Tensor, patches: Tensor): Tensor {
  const [batch = 0, , width = 0] = patches.shape;
  return cat([token.expand([batch, 1, width]), patches], 1);
}
