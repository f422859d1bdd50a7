// Multi-head self-attention, timm's names: qkv and proj.
import {
  type Branch,
  cat,
  crossAttention,
  fusesAttention,
  hasFusedAttention,
  jointAttention,
  linear,
  scaledDotProductAttention,
  type Tensor,
  tidy,
  zeros,
  zerosLike,
} from "../torch/index.js";
import { Dropout } from "./dropout.js";
import { ShapeError } from "./errors.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

export interface AttentionConfig {
  heads: number;
  /** Bias of q, k and v. Default true. */
  qkvBias?: boolean;
  /** Bias of k; adding one changes no softmax. CAE has none, and keeps `q_bias` and `v_bias` instead. Default true. */
  keyBias?: boolean;
  /** Dropout on the output projection. Default 0. */
  drop?: number;
  /** Rows of a table of biases by relative position, [rows, heads], which whoever knows the positions adds as `mask`. Default: no table. */
  biasRows?: number | undefined;
  /**
   * Use libtorch's fused operator. Default: on CUDA only. On the CPU it is one of the addon's (fusesAttention) or, where that does not suit, the
   * explicit form, in bfloat16 several times faster than libtorch's (bench/attention.mjs). `false` is always the explicit form.
   */
  fused?: boolean;
}

export interface AttentionOptions {
  mask?: Tensor | undefined;
  queries?: number | undefined;
}

export class Attention extends Module {
  qkv: Linear;
  qBias: Tensor | null;
  vBias: Tensor | null;
  relativePositionBiasTable: Tensor | null;
  proj: Linear;
  projDrop: Dropout;
  readonly heads: number;
  readonly scale: number;
  readonly #fused: boolean | undefined;

  constructor(
    readonly features: number,
    { heads, qkvBias = true, keyBias = true, drop = 0, biasRows, fused }: AttentionConfig,
  ) {
    super();
    if (features % heads !== 0) throw new ShapeError(`the width ${features} must be a multiple of the number of heads, ${heads}`);
    this.heads = heads;
    this.scale = (features / heads) ** -0.5;
    this.qkv = new Linear(features, 3 * features, { bias: qkvBias && keyBias });
    const split = qkvBias && !keyBias;
    this.qBias = split ? parameter(zeros([features])) : null;
    this.vBias = split ? parameter(zeros([features])) : null;
    this.relativePositionBiasTable = biasRows === undefined ? null : parameter(zeros([biasRows, heads]));
    this.proj = new Linear(features, features);
    this.projDrop = new Dropout(drop);
    this.#fused = fused;
  }

  /**
   * @param x [B, N, C]
   * @param options.mask added to the scores before the softmax; broadcasts to [B, heads, n, N]
   * @param options.queries only the first n tokens ask; default all. What the others would have got is not computed.
   * @returns the output [B, n, C]
   */
  forward(x: Tensor, options: AttentionOptions = {}): Tensor {
    return this.projDrop.call(this.proj.call(this.#attend(x, options)));
  }

  /** As forward, with the last bias left to the residual sum where that saves a pass. */
  branch(x: Tensor, options: AttentionOptions = {}): Branch {
    return tidy(() => (this.projDrop.p > 0 ? { x: this.forward(x, options) } : this.proj.product(this.#attend(x, options))));
  }

  /** As forward, and the softmax weights [B, heads, n, N] beside it. */
  withWeights(x: Tensor, options: AttentionOptions = {}): { output: Tensor; weights: Tensor } {
    return tidy(() => {
      const [q, k, v] = this.#project(x, options.queries);
      const weights = this.#weights(q, k, options.mask);
      return { output: this.projDrop.call(this.proj.call(this.#merge(weights.matmul(v)))), weights };
    });
  }

  /** What comes before the output projection, [B, n, C]. */
  #attend(x: Tensor, options: AttentionOptions): Tensor {
    const { mask } = options;
    const asking = options.queries === undefined || options.queries === x.size(1) ? x : x.narrow(1, 0, options.queries);
    if (this.#fused !== false && fusesAttention(asking, x, mask)) return this.#attendFused(asking, x, mask);
    const [q, k, v] = this.#project(x, options.queries);
    const fused = this.#fused ?? x.device !== "cpu";
    if (fused && hasFusedAttention()) return this.#merge(scaledDotProductAttention(q, k, v, mask ? { mask } : {}));
    return this.#merge(this.#weights(q, k, mask).matmul(v));
  }

  #attendFused(asking: Tensor, x: Tensor, mask: Tensor | undefined): Tensor {
    const { heads, scale, features } = this;
    const bias = this.#bias();
    if (asking === x) return jointAttention(linear(x, this.qkv.weight), { heads, scale, bias, mask });
    const [q, k, v] = this.qkv.weight.split(features) as [Tensor, Tensor, Tensor];
    const [qBias, , vBias] = bias ? (bias.split(features) as [Tensor, Tensor, Tensor]) : [null, null, null];
    return crossAttention([linear(asking, q), linear(x, k), linear(x, v)], { heads, scale, qBias, vBias, mask });
  }

  #project(x: Tensor, queries: number | undefined): [Tensor, Tensor, Tensor] {
    const [batch = 0, length = 0] = x.shape;
    const { weight } = this.qkv;
    const bias = this.#bias();
    const split = (projected: Tensor, n: number, parts: number) =>
      projected.view([batch, n, parts, this.heads, -1]).permute([2, 0, 3, 1, 4]).unbind(0);
    if (queries === undefined || queries === length) return split(linear(x, weight, bias), length, 3) as [Tensor, Tensor, Tensor];
    const C = this.features;
    const q = linear(x.narrow(1, 0, queries), weight.narrow(0, 0, C), bias?.narrow(0, 0, C) ?? null);
    const kv = linear(x, weight.narrow(0, C, 2 * C), bias?.narrow(0, C, 2 * C) ?? null);
    return [...split(q, queries, 1), ...split(kv, length, 2)] as [Tensor, Tensor, Tensor];
  }

  /** Of q, k and v, [3 C]. */
  #bias(): Tensor | null {
    return this.qBias && this.vBias ? cat([this.qBias, zerosLike(this.qBias), this.vBias]) : this.qkv.bias;
  }

  #weights(q: Tensor, k: Tensor, mask: Tensor | undefined): Tensor {
    // Scaling q costs N d products, scaling the scores N N.
    const scores = q.mul(this.scale).matmul(k.transpose(-2, -1));
    return (mask ? scores.add(mask) : scores).softmax(-1);
  }

  #merge(out: Tensor): Tensor {
    const [batch = 0, , length = 0] = out.shape;
    return out.transpose(1, 2).reshape([batch, length, this.features]);
  }
}
