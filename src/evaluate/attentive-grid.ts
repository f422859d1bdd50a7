// Attentive probes side by side: each has its own query, attention, BatchNorm and classifier; all heads of all members look at the tokens in one
// product.
import { BatchNorm1d, init, Linear, Module } from "../nn/index.js";
import type { ParameterGroup } from "../optim/index.js";
import {
  backward,
  cat,
  crossEntropy,
  Generator,
  grad,
  keepingRngState,
  noGrad,
  stack,
  type Tensor,
  tidy,
  zerosLike,
} from "../torch/index.js";
import { AttentivePool, attend } from "./attentive-pool.js";
import type { ProbeGrid } from "./probe-grid.js";

export interface AttentiveGridConfig {
  /** Channels of a token. */
  width: number;
  heads: number;
  classes: number;
  members: number;
  /** Every member starts from the same weights. */
  seed: number;
}

/** Pooled feature, BatchNorm without affine, classifier. */
class AttentiveHead extends Module {
  pool: AttentivePool;
  bn: BatchNorm1d;
  head: Linear;

  constructor({ width, heads, classes, seed }: AttentiveGridConfig) {
    super();
    const generator = new Generator(seed);
    this.pool = new AttentivePool(width, heads, generator);
    this.bn = new BatchNorm1d(width, { affine: false, eps: 1e-5 });
    this.head = keepingRngState(() => new Linear(width, classes));
    init.normal_(this.head.weight, { std: 0.01, generator });
    init.constant_(this.head.bias!, 0);
  }

  /** What the heads found [B, heads, C] to logits [B, classes]. */
  forward(found: Tensor): Tensor {
    return this.head.call(this.bn.call(this.pool.read(found)));
  }
}

export class AttentiveGrid extends Module implements ProbeGrid {
  heads: AttentiveHead[];
  readonly classes: number;
  readonly members: number;
  readonly groups: readonly ParameterGroup[];
  /** Numbers of tokens that are looked at at once; 512 MB as float32. */
  pieceNumbers = 2 ** 27;

  constructor(config: AttentiveGridConfig) {
    super();
    this.classes = config.classes;
    this.members = config.members;
    this.heads = Array.from({ length: config.members }, () => new AttentiveHead(config));
    this.groups = this.heads.map((head, member) => {
      const entries = [...head.namedParameters()];
      return { parameters: entries.map(([, each]) => each), names: entries.map(([name]) => `${member}.${name}`) };
    });
  }

  /** Normalised tokens [B, T, C] to logits [B, members, classes]. */
  forward(tokens: Tensor): Tensor {
    const looksFor = this.#looksFor();
    return this.#logits(cat(this.#pieces(tokens).map((piece) => attend(piece.float(), looksFor))));
  }

  #looksFor(): Tensor {
    return cat(this.heads.map(({ pool }) => pool.looksFor()));
  }

  #logits(found: Tensor): Tensor {
    const each = found.size(1) / this.members;
    return stack(
      this.heads.map((head, i) => head.call(found.narrow(1, i * each, each))),
      1,
    );
  }

  learn(tokens: Tensor, labels: Tensor): Tensor {
    this.zeroGrad();
    return tidy(() => {
      const looksFor = this.#looksFor();
      const leaf = looksFor.detach().requiresGrad_();
      const parts = this.#pieces(tokens);
      const look = (piece: Tensor) => attend(piece.float(), leaf);
      // BatchNorm needs the whole batch. Where that is too large, its pieces are looked at again for their gradients.
      const [only] = parts.length === 1 ? parts.map(look) : [];
      const seen = only ?? cat(parts.map((piece) => noGrad(() => tidy(() => look(piece)))));
      const found = seen.detach().requiresGrad_();
      const logits = this.#logits(found).flatten(0, 1);
      const targets = labels.repeatInterleave(this.members);
      const losses = crossEntropy(logits, targets, { reduction: "none" }).view([-1, this.members]).mean(0);
      losses.sum().backward();
      const sum = zerosLike(leaf);
      let from = 0;
      for (const piece of parts) {
        tidy(() => {
          const gradient = found.grad!.narrow(0, from, piece.size(0));
          sum.add_(grad([only ?? look(piece)], [leaf], { gradients: [gradient] })[0]!);
        });
        from += piece.size(0);
      }
      backward([looksFor], { gradients: [sum] });
      return losses.detach();
    });
  }

  /** Tokens [B, T, C] in pieces of few enough images. */
  #pieces(tokens: Tensor): Tensor[] {
    const [, count = 1, width = 1] = tokens.shape;
    return tokens.split(Math.max(1, Math.floor(this.pieceNumbers / (count * width))));
  }
}
