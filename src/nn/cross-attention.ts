// Multi-head attention in which queries, keys and values come from different sequences.
import { type Branch, crossAttention, fusesAttention, linear, type Tensor, tidy, zeros } from "../torch/index.js";
import { ShapeError } from "./errors.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

export interface CrossAttentionConfig {
  heads: number;
  /** Bias of q and v; a bias of k changes no softmax, so there is none. Default true. */
  bias?: boolean;
}

/** State-dict names are CAE's: `q.weight`, `k.weight`, `v.weight`, `q_bias`, `v_bias`, `proj.*`. */
export class CrossAttention extends Module {
  q: Linear;
  k: Linear;
  v: Linear;
  qBias: Tensor | null;
  vBias: Tensor | null;
  proj: Linear;
  readonly heads: number;
  readonly scale: number;

  constructor(
    readonly features: number,
    { heads, bias = true }: CrossAttentionConfig,
  ) {
    super();
    if (features % heads !== 0) throw new ShapeError(`the width ${features} must be a multiple of the number of heads, ${heads}`);
    this.heads = heads;
    this.scale = (features / heads) ** -0.5;
    this.q = new Linear(features, features, { bias: false });
    this.k = new Linear(features, features, { bias: false });
    this.v = new Linear(features, features, { bias: false });
    this.qBias = bias ? parameter(zeros([features])) : null;
    this.vBias = bias ? parameter(zeros([features])) : null;
    this.proj = new Linear(features, features);
  }

  /**
   * @param queries [B, n, C] @param keys [B, m, C] @param values [B, m, C], default the keys
   * @param options.mask added to the scores before the softmax; broadcasts to [B, heads, n, m]
   * @returns [B, n, C]
   */
  forward(queries: Tensor, keys: Tensor, values: Tensor = keys, { mask }: { mask?: Tensor | undefined } = {}): Tensor {
    return this.proj.call(this.#attend(queries, keys, values, mask));
  }

  /** As forward, with the last bias left to the residual sum where that saves a pass. */
  branch(queries: Tensor, keys: Tensor, values: Tensor = keys, { mask }: { mask?: Tensor | undefined } = {}): Branch {
    return tidy(() => this.proj.product(this.#attend(queries, keys, values, mask)));
  }

  /** What comes before the output projection, [B, n, C]. */
  #attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | undefined): Tensor {
    const { heads, scale, qBias, vBias } = this;
    if (fusesAttention(queries, keys, mask)) {
      const products = [linear(queries, this.q.weight), this.k.call(keys), linear(values, this.v.weight)] as const;
      return crossAttention(products, { heads, scale, qBias, vBias, mask });
    }
    const q = this.#split(linear(queries, this.q.weight, qBias));
    const k = this.#split(this.k.call(keys));
    const v = this.#split(linear(values, this.v.weight, vBias));
    const scores = q.mul(scale).matmul(k.transpose(-2, -1));
    const out = (mask ? scores.add(mask) : scores).softmax(-1).matmul(v);
    return out.transpose(1, 2).reshape(queries.shape);
  }

  /** [B, n, C] -> [B, heads, n, d] */
  #split(x: Tensor): Tensor {
    const [batch = 0, length = 0] = x.shape;
    return x.view([batch, length, this.heads, -1]).transpose(1, 2);
  }
}
