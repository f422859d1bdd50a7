// Multi-head self-attention, timm's names: qkv and proj.
import { cat, hasFusedAttention, linear, scaledDotProductAttention, type Tensor, zeros, zerosLike } from "../torch/index.js";
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
  /**
   * Use the fused operator. Default: on CUDA only. On CPU the explicit form measured the same in float32 and a third faster in bfloat16
   * (bench/attention.mjs).
   */
  fused?: boolean;
}

export class Attention extends Module {
  qkv: Linear;
  qBias: Tensor | null;
  vBias: Tensor | null;
  proj: Linear;
  projDrop: Dropout;
  readonly heads: number;
  readonly scale: number;
  readonly #fused: boolean | undefined;

  constructor(
    readonly features: number,
    { heads, qkvBias = true, keyBias = true, drop = 0, fused }: AttentionConfig,
  ) {
    super();
    if (features % heads !== 0) throw new ShapeError(`the width ${features} must be a multiple of the number of heads, ${heads}`);
    this.heads = heads;
    this.scale = (features / heads) ** -0.5;
    this.qkv = new Linear(features, 3 * features, { bias: qkvBias && keyBias });
    const split = qkvBias && !keyBias;
    this.qBias = split ? parameter(zeros([features])) : null;
    this.vBias = split ? parameter(zeros([features])) : null;
    this.proj = new Linear(features, features);
    this.projDrop = new Dropout(drop);
    this.#fused = fused;
  }

  /**
   * @param x [B, N, C]
   * @param options.mask added to the scores before the softmax; broadcasts to [B, heads, N, N]
   * @returns the output [B, N, C]
   */
  forward(x: Tensor, { mask }: { mask?: Tensor | undefined } = {}): Tensor {
    const [q, k, v] = this.#project(x);
    const fused = this.#fused ?? x.device !== "cpu";
    const out =
      fused && hasFusedAttention()
        ? scaledDotProductAttention(q, k, v, mask ? { mask } : {})
        : this.#weights(q, k, mask).matmul(v);
    return this.#merge(out, x);
  }

  /** As forward, and the softmax weights [B, heads, N, N] beside it. */
  withWeights(x: Tensor, { mask }: { mask?: Tensor | undefined } = {}): { output: Tensor; weights: Tensor } {
    const [q, k, v] = this.#project(x);
    const weights = this.#weights(q, k, mask);
    return { output: this.#merge(weights.matmul(v), x), weights };
  }

  #project(x: Tensor): [Tensor, Tensor, Tensor] {
    const [batch = 0, length = 0] = x.shape;
    const bias = this.qBias && this.vBias ? cat([this.qBias, zerosLike(this.qBias), this.vBias]) : this.qkv.bias;
    const qkv = linear(x, this.qkv.weight, bias);
    return qkv.view([batch, length, 3, this.heads, -1]).permute([2, 0, 3, 1, 4]).unbind(0) as [Tensor, Tensor, Tensor];
  }

  #weights(q: Tensor, k: Tensor, mask: Tensor | undefined): Tensor {
    // Scaling q costs N d products, scaling the scores N N.
    const scores = q.mul(this.scale).matmul(k.transpose(-2, -1));
    return (mask ? scores.add(mask) : scores).softmax(-1);
  }

  #merge(out: Tensor, x: Tensor): Tensor {
    const [batch = 0, length = 0] = x.shape;
    return this.projDrop.call(this.proj.call(out.transpose(1, 2).reshape([batch, length, this.features])));
  }
}
