// The residual stream of a transformer.
import { addBranch, addNorm, type Branch, normFor, type Tensor } from "../torch/index.js";
import type { DropPath } from "./dropout.js";
import type { LayerScale } from "./layer-scale.js";
import type { LayerNorm } from "./norm.js";

/** A branch with the learned factor of its channels and, in training, that of its samples. */
export function scaledBranch(branch: Branch, scale: LayerScale | null, dropPath: DropPath): Branch {
  return { ...branch, gamma: scale?.gamma, keep: dropPath.factors(branch.x) };
}

/** The tensors that a stream is made of, by what they are in it. */
export interface ResidualParts {
  x: Tensor;
  branch?: Tensor | undefined;
  bias?: Tensor | undefined;
  gamma?: Tensor | undefined;
  keep?: Tensor | undefined;
}

/** A residual stream whose newest branch is not added yet: whoever wants the norm of the sum gets both in one pass. */
export class Residual {
  /** @param x [B, N, C] @param branch what is to be added to it */
  constructor(
    private x: Tensor,
    private branch: Branch | null = null,
  ) {}

  /** A stream of the tensors that another one's `parts` gave, or of others in their places. */
  static of({ x, branch, ...rest }: ResidualParts): Residual {
    return new Residual(x, branch ? { x: branch, ...rest } : null);
  }

  /** What it is made of, for `of`. */
  parts(): ResidualParts {
    const { x: branch, bias, gamma, keep } = this.branch ?? {};
    return { x: this.x, branch, bias: bias ?? undefined, gamma: gamma ?? undefined, keep: keep ?? undefined };
  }

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
