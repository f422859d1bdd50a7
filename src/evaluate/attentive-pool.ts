// CAE's attentive read-out (Chen et al., 2022, its attentive probing): one learned query looks at all tokens of an image and brings back one
// feature. No residual, no MLP, no positions.
//
//   f = proj( concat over heads h of  sum over tokens t of  a_ht (W_v^h LN_v(x_t) + b_v^h) ),   a_h = softmax over t of  q_h . W_k^h LN_k(x_t) / sqrt(d)
//   q = W_q LN_q(query) + b_q
//
// The query is the same for all images and the tokens are frozen, so the products are taken in another order: W_k goes to the query, once, and
// W_v to the sum over tokens. A token then costs 2 C x heads multiplications instead of 2 C x C, and the result is the same. LN_k and LN_v share
// what they do before their scales and shifts; LN_k's shift changes no softmax.
import { CrossAttention, init, LayerNorm, Linear, Module, parameter } from "../nn/index.js";
import { type Generator, keepingRngState, layerNorm, linear, type Tensor, tidy, zeros } from "../torch/index.js";

/** As the encoder's own norms. */
const EPS = 1e-6;

/** What LN_k and LN_v do before their scales and shifts. It needs no training, so that it may be kept: tokens [B, T, C]. */
export function normalisedTokens(tokens: Tensor): Tensor {
  return layerNorm(tokens.float(), [tokens.size(-1)], null, null, EPS);
}

export class AttentivePool extends Module {
  /** [1, 1, C], zeros at first: attention starts uniform. */
  query: Tensor;
  norm1Q: LayerNorm;
  norm1K: LayerNorm;
  norm1V: LayerNorm;
  crossAttn: CrossAttention;

  constructor(
    readonly width: number,
    readonly heads: number,
    generator: Generator,
  ) {
    super();
    this.query = parameter(zeros([1, 1, width]));
    this.norm1Q = new LayerNorm(width, { eps: EPS });
    this.norm1K = new LayerNorm(width, { eps: EPS });
    this.norm1V = new LayerNorm(width, { eps: EPS });
    // Layers draw from the default generator before their weights are set here.
    this.crossAttn = keepingRngState(() => new CrossAttention(width, { heads }));
    this.apply((module) => {
      if (!(module instanceof Linear)) return;
      init.truncNormal_(module.weight, { std: 0.02, generator });
      if (module.bias) init.constant_(module.bias, 0);
    });
  }

  /** What each head looks for: [heads, C], to be multiplied with normalised tokens. */
  looksFor(): Tensor {
    return tidy(() => {
      const { heads, width, crossAttn } = this;
      const q = linear(this.norm1Q.call(this.query), crossAttn.q.weight, crossAttn.qBias).view([heads, 1, -1]);
      const keys = crossAttn.k.weight.view([heads, -1, width]);
      return q.mul(crossAttn.scale).bmm(keys).view([heads, width]).mul(this.norm1K.weight!);
    });
  }

  /** What the heads found [B, heads, C], sums of normalised tokens, to the feature [B, C]. */
  read(found: Tensor): Tensor {
    return tidy(() => {
      const { heads, width, crossAttn } = this;
      const batch = found.size(0);
      const seen = found.mul(this.norm1V.weight!).add(this.norm1V.bias!);
      const values = crossAttn.v.weight.view([heads, -1, width]).transpose(1, 2);
      const out = seen.transpose(0, 1).bmm(values).transpose(0, 1).reshape([batch, width]);
      return crossAttn.proj.call(crossAttn.vBias ? out.add(crossAttn.vBias) : out);
    });
  }

  /** Normalised tokens [B, T, C] to features [B, C]. */
  forward(tokens: Tensor): Tensor {
    return this.read(attend(tokens, this.looksFor()));
  }
}

/** Sums of normalised tokens [B, T, C], weighted by how well they fit what n heads look for [n, C]: [B, n, C]. */
export function attend(tokens: Tensor, looksFor: Tensor): Tensor {
  return tidy(() => {
    const [batch = 0, count = 0, width = 0] = tokens.shape;
    const scores = tokens
      .view([batch * count, width])
      .mm(looksFor.t())
      .view([batch, count, -1]);
    return scores.transpose(1, 2).softmax(-1).bmm(tokens);
  });
}
