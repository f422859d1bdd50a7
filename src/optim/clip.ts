// Gradient clipping without reading a number back on a GPU, where a read would wait for the whole step. On the CPU nothing waits, and gradients that
// are short enough are not passed over. The norms before clipping are returned as tensors; read them when they are logged.
import { foreach, noGrad, onesLike, stack, type Tensor, tidy, where, zeros } from "../torch/index.js";
import { NonFiniteGradientError } from "./errors.js";
import { scaleAll_, scaleEach_ } from "./lists.js";

export interface ClipOptions {
  /**
   * Throw NonFiniteGradientError when a norm is infinite or not a number, before anything is changed. Reads one number back. Default false:
   * then the returned norm says so.
   */
  errorIfNonFinite?: boolean;
  /** Names of the parameters for that error. Default: their positions. */
  names?: readonly string[];
}

const epsilon = 1e-6;

const readsFreely = (x: Tensor): boolean => x.device === "cpu";

/**
 * Scales all gradients by one factor so that their common 2-norm is at most `maxNorm` (torch's clip_grad_norm_).
 *
 * @param maxNorm Infinity to measure only
 * @returns the norm before clipping, zero-dimensional; 0 when no parameter has a gradient
 */
export function clipGradNorm(parameters: readonly Tensor[], maxNorm: number, options: ClipOptions = {}): Tensor {
  return measured(
    parameters,
    options,
    (gradients, norms) => {
      const total = norms.norm();
      if (maxNorm < Number.POSITIVE_INFINITY) {
        const factor = total.add(epsilon).reciprocal().mul(maxNorm).clamp({ max: 1 });
        if (!readsFreely(factor) || factor.item() !== 1) scaleAll_(gradients, factor);
      }
      return total;
    },
    [],
  );
}

/**
 * Scales each gradient by itself so that its 2-norm is at most `maxNorm` (DINO's clip_gradients).
 *
 * @param maxNorm Infinity to measure only
 * @returns the norms before clipping, [number of parameters that have a gradient]
 */
export function clipGradNormPerTensor(parameters: readonly Tensor[], maxNorm: number, options: ClipOptions = {}): Tensor {
  return measured(
    parameters,
    options,
    (gradients, norms) => {
      if (maxNorm < Number.POSITIVE_INFINITY) {
        const factors = norms.add(epsilon).reciprocal().mul(maxNorm);
        const clamped = where(factors.lt(1), factors, onesLike(factors));
        const numbers = readsFreely(clamped) ? clamped.toArray() : null;
        const changes = (_: Tensor, i: number) => numbers?.[i] !== 1;
        scaleEach_(gradients.filter(changes), clamped.unbind(0).filter(changes));
      }
      return norms;
    },
    [0],
  );
}

function measured(
  parameters: readonly Tensor[],
  { errorIfNonFinite = false, names }: ClipOptions,
  clip: (gradients: Tensor[], norms: Tensor) => Tensor,
  emptyShape: readonly number[],
): Tensor {
  return tidy(() =>
    noGrad(() => {
      const gradients: Tensor[] = [];
      const owners: string[] = [];
      for (const [i, parameter] of parameters.entries()) {
        const gradient = parameter.grad;
        if (!gradient) continue;
        gradients.push(gradient);
        owners.push(names?.[i] ?? `parameter ${i}`);
      }
      if (gradients.length === 0) return zeros(emptyShape);
      const norms = stack(foreach.norm(gradients));
      if (errorIfNonFinite) {
        const finite = norms.isFinite();
        if (!finite.all().item()) {
          const flags = finite.toArray();
          throw new NonFiniteGradientError(owners.filter((_, i) => !flags[i]));
        }
      }
      return clip(gradients, norms);
    }),
  );
}
