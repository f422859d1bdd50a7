// RandSAC's decoder (Hua et al., 2023, section 4): layers of masked self-attention, attention to the encoder's tokens, and a perceptron (Vaswani
// et al., 2017), here with the norms first. Each layer may look at a learned mixture of all encoder layers ("trainable skip connections").
import { Attention, CrossAttention, init, LayerNorm, Linear, Mlp, Module, parameter, Residual } from "../nn/index.js";
import { autocastDType, empty, noGrad, stack, type Tensor, tidy, zeros } from "../torch/index.js";
import { checkpointed } from "./checkpointed.js";

export interface SegmentDecoderConfig {
  /** Of tokens and memory. */
  width: number;
  depth: number;
  heads: number;
  /** Numbers that are predicted of a patch. */
  outFeatures: number;
  /** Encoder layers that the skips mix; null for none: every layer then sees the encoder's normalised output. */
  skips: { layers: number; init: SkipInit; norm: boolean } | null;
  /** A learned vector added to every query. */
  query: boolean;
}

/** `last`: the last encoder layer only; `uniform`: 1 / layers each; `normal`: normal with std 1 / sqrt(layers). */
export type SkipInit = "last" | "uniform" | "normal";

export interface DecoderMasks {
  /** Added to the scores of self-attention and of attention to the memory; broadcast to [B, heads, n, m]. */
  self: Tensor;
  cross: Tensor;
}

class SegmentDecoderLayer extends Module {
  norm1: LayerNorm;
  attn: Attention;
  norm2: LayerNorm;
  crossAttn: CrossAttention;
  norm3: LayerNorm;
  mlp: Mlp;

  constructor({ width, heads }: SegmentDecoderConfig) {
    super();
    this.norm1 = new LayerNorm(width);
    this.attn = new Attention(width, { heads });
    this.norm2 = new LayerNorm(width);
    this.crossAttn = new CrossAttention(width, { heads });
    this.norm3 = new LayerNorm(width);
    this.mlp = new Mlp(width, 4 * width);
  }

  forward(queries: Tensor, memory: Tensor, masks: DecoderMasks): Tensor {
    return this.flow(new Residual(queries), memory, masks).value();
  }

  /** As forward, for layers one after another: the last branch is added with the next one's norm. */
  flow(stream: Residual, memory: Tensor, { self, cross }: DecoderMasks): Residual {
    const among = this.attn.branch(stream.normed(this.norm1), { mask: self });
    const asked = stream.plus(among);
    const seen = this.crossAttn.branch(asked.normed(this.norm2), memory, memory, { mask: cross });
    const told = asked.plus(seen);
    return told.plus(this.mlp.branch(told.normed(this.norm3)));
  }
}

export class SegmentDecoder extends Module {
  queryToken: Tensor | null;
  layers: SegmentDecoderLayer[];
  /** W [depth, encoder layers] */
  skipWeights: Tensor | null;
  skipNorms: LayerNorm[];
  norm: LayerNorm;
  head: Linear;
  gradientCheckpointing = false;

  constructor(config: SegmentDecoderConfig) {
    super();
    const { width, depth, outFeatures, skips, query } = config;
    this.queryToken = query ? parameter(init.normal_(empty([1, 1, width]), { std: 0.02 })) : null;
    this.layers = Array.from({ length: depth }, () => new SegmentDecoderLayer(config));
    this.skipWeights = skips ? parameter(skipStart(depth, skips.layers, skips.init)) : null;
    this.skipNorms = skips?.norm ? Array.from({ length: depth }, () => new LayerNorm(width)) : [];
    this.norm = new LayerNorm(width);
    this.head = new Linear(width, outFeatures);
    noGrad(() =>
      this.apply((module) => {
        if (!(module instanceof Linear)) return;
        init.xavierUniform_(module.weight);
        if (module.bias) init.constant_(module.bias, 0);
      }),
    );
  }

  /**
   * @param positions of the patches to predict, [B, n, C]: all that is known of them
   * @param memory the encoder's tokens [B, m, C]; with skips those of every layer, from first to last
   * @returns predictions [B, n, out]
   */
  forward(positions: Tensor, memory: Tensor | readonly Tensor[], masks: DecoderMasks): Tensor {
    const memories = this.memories(memory);
    let stream = new Residual(this.queryToken ? positions.add(this.queryToken) : positions);
    for (const [l, layer] of this.layers.entries()) {
      stream = this.gradientCheckpointing
        ? checkpointed((before, { memory, ...own }) => ({ next: layer.flow(before, memory, own), before }), stream, {
            memory: memories[l]!,
            ...masks,
          }).next
        : layer.flow(stream, memories[l]!, masks);
    }
    return this.head.call(stream.normed(this.norm));
  }

  /** Z^l = sum_k W_lk H^k for each layer, all at once; normalised where that is wanted. */
  memories(memory: Tensor | readonly Tensor[]): Tensor[] {
    const weights = this.skipWeights;
    if (!weights) return this.layers.map(() => memory as Tensor);
    return tidy(() => {
      // Narrowed first where the product would do it: less to put together.
      const encoder = stack((memory as readonly Tensor[]).map((each) => each.to(autocastDType() ?? each.dtype)));
      const mixed = weights
        .to(encoder.dtype)
        .matmul(encoder.flatten(1))
        .view([this.layers.length, ...encoder.shape.slice(1)]);
      return mixed.unbind(0).map((each, l) => (this.skipNorms.length > 0 ? new Residual(each).normed(this.skipNorms[l]!) : each));
    });
  }
}

function skipStart(depth: number, layers: number, kind: SkipInit): Tensor {
  const weights = zeros([depth, layers]);
  if (kind === "normal") return init.normal_(weights, { std: 1 / Math.sqrt(layers) });
  if (kind === "uniform") return init.constant_(weights, 1 / layers);
  tidy(() => void init.constant_(weights.select(1, layers - 1), 1));
  return weights;
}
