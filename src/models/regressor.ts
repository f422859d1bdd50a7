// CAE's latent contextual regressor (Chen et al., 2022, section 3.2 and its code): predicts what the encoder would say of the masked patches
// from what it says of the visible ones.
import { CrossAttention, DropPath, LayerNorm, LayerScale, Mlp, Module, Residual, scaledBranch } from "../nn/index.js";
import { cat, checkpoint, type Tensor } from "../torch/index.js";

export interface RegressorConfig {
  width: number;
  depth: number;
  heads: number;
  /** Start of the learned factor of each branch. */
  layerScale: number;
  /** Drop-path probability of the last block; grows linearly from 0 in the first. */
  dropPath: number;
  /** Normalise what comes out. CAE v2 does not. Default true. */
  norm?: boolean;
}

/**
 * Not the usual block: queries, keys and values have a norm each, values have no positions, and the second norm replaces the residual
 * stream instead of standing in a branch.
 */
class RegressorBlock extends Module {
  norm1Q: LayerNorm;
  norm1K: LayerNorm;
  norm1V: LayerNorm;
  crossAttn: CrossAttention;
  ls1: LayerScale;
  norm2: LayerNorm;
  mlp: Mlp;
  ls2: LayerScale;
  readonly #dropPath: DropPath;

  constructor({ width, heads, layerScale }: RegressorConfig, dropPath: number) {
    super();
    this.norm1Q = new LayerNorm(width);
    this.norm1K = new LayerNorm(width);
    this.norm1V = new LayerNorm(width);
    this.crossAttn = new CrossAttention(width, { heads });
    this.ls1 = new LayerScale(width, layerScale);
    this.norm2 = new LayerNorm(width);
    this.mlp = new Mlp(width, 4 * width);
    this.ls2 = new LayerScale(width, layerScale);
    this.#dropPath = new DropPath(dropPath);
  }

  /** `visible` [B, v, C], `visibleAt` the same with positions; `masked` [B, m, C] are the current queries, `positions` theirs. */
  forward(masked: Tensor, positions: Tensor, visible: Tensor, visibleAt: Tensor): Tensor {
    this.#dropPath.training = this.training;
    const at = masked.add(positions);
    const queries = new Residual(at).normed(this.norm1Q);
    // Put together after their norms, where they are half as wide.
    const keys = together(visibleAt, at, this.norm1K);
    const values = together(visible, masked, this.norm1V);
    const attended = new Residual(masked, scaledBranch(this.crossAttn.branch(queries, keys, values), this.ls1, this.#dropPath));
    const x = attended.normed(this.norm2, { exact: true });
    return new Residual(x, scaledBranch(this.mlp.branch(x), this.ls2, this.#dropPath)).value();
  }
}

/** Two sequences one after the other, each token normalised. */
const together = (first: Tensor, second: Tensor, norm: LayerNorm) =>
  cat([new Residual(first).normed(norm), new Residual(second).normed(norm)], 1);

export class LatentRegressor extends Module {
  blocks: RegressorBlock[];
  norm: LayerNorm | null;
  gradientCheckpointing = false;

  constructor(config: RegressorConfig) {
    super();
    const { width, depth, dropPath, norm = true } = config;
    this.blocks = Array.from({ length: depth }, (_, i) => new RegressorBlock(config, (dropPath * i) / Math.max(1, depth - 1)));
    this.norm = norm ? new LayerNorm(width) : null;
  }

  /**
   * @param queries the mask token for each masked patch, [B, m, C]
   * @param visible the encoder's tokens of the visible patches, [B, v, C], without class token
   * @param positions of the masked and the visible patches, [B, m, C] and [B, v, C]
   * @returns the predicted representations of the masked patches, [B, m, C]
   */
  forward(queries: Tensor, visible: Tensor, positions: { masked: Tensor; visible: Tensor }): Tensor {
    // Visible tokens are the same in all blocks, whose norms read them row after row.
    const seen = visible.contiguous();
    const seenAt = seen.add(positions.visible);
    let x = queries;
    for (const block of this.blocks) {
      const inputs = [x, positions.masked, seen, seenAt] as const;
      x = this.gradientCheckpointing
        ? checkpoint(inputs, (...given) => block.call(...(given as [...typeof inputs])))
        : block.call(...inputs);
    }
    return this.norm ? this.norm.call(x) : x;
  }
}
