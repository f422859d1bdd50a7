// The residual stream of a transformer.
import { addBranch, addNorm, type Branch, normFor, type Tensor } from "../torch/index.js";
import type { DropPath } from "./dropout.js";
import type { LayerScale } from "./layer-scale.js";
import type { LayerNorm } from "./norm.js";

/** A branch with the learned factor of its channels and, in training, that of its samples. */
export function scaledBranch(branch: Branch, scale: LayerScale | null, dropPath: DropPath): Branch {
  return { ...branch, gamma: scale?.gamma, keep: dropPath.factors(branch.x) };
}

/** A residual stream whose newest branch is not added yet: whoever wants the norm of the sum gets both in one pass. */
export class Residual {
  /** @param x [B, N, C] @param branch what is to be added to it */
  constructor(
    private x: Tensor,
    private branch: Branch | null = null,
  ) {}

  /** The sum [B, N, C]. */
  value(): Tensor {
    if (this.branch) this.x = addBranch(this.x, this.branch);
    this.branch = null;
    return this.x;
  }

  /** The stream with one more branch. */
  plus(branch: Branch): Residual {
    return new Residual(this.value(), branch);
  }

  /** The sum, normalised, for matrix products to read: under autocast in their dtype, unless it is to be `exact`. */
  normed(norm: LayerNorm, { exact = false }: { exact?: boolean } = {}): Tensor {
    const { weight, bias, eps } = norm;
    if (!weight || !bias) return norm.call(this.value());
    if (!this.branch) return normFor(this.x, { weight, bias, eps }, { exact });
    const { sum, normed } = addNorm(this.x, this.branch, { weight, bias, eps }, { exact });
    this.x = sum;
    this.branch = null;
    return normed;
  }
}
