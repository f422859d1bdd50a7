// Initialisers, in place and without history. They draw from the default generator (manualSeed) unless one is given.
import { empty, type Generator, noGrad, type Tensor, tidy } from "../torch/index.js";

type Random = { generator?: Generator };

function erf(x: number): number {
  // Abramowitz and Stegun 7.1.26 has an error of 1.5e-7: too coarse for bounds far out, so sum the series (or its complement's fraction).
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
      if (n > 200) break;
    }
    return Math.sign(x) * ((2 / Math.sqrt(Math.PI)) * sum);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * (z + fraction)));
}

/**
 * Normal with `mean` and `std`, cut off at `a` and `b` (absolute values, not multiples of std), as timm's and torch's trunc_normal_.
 * Defaults: mean 0, std 0.02, a -2, b 2.
 */
export function truncNormal_(
  tensor: Tensor,
  { mean = 0, std = 0.02, a = -2, b = 2, generator }: { mean?: number; std?: number; a?: number; b?: number } & Random = {},
): Tensor {
  const cdf = (x: number) => (1 + erf((x - mean) / std / Math.SQRT2)) / 2;
  // One float32 uniform in 2^24 is exactly -1 where the cut is far out, and its inverse minus infinity: a weight at `a` itself, a hundred
  // std away. So the ends are left out. Narrower types cannot tell such numbers from 1 and are drawn in float32.
  const largest = 1 - 2 ** (tensor.dtype === "float64" ? -53 : -24);
  const narrow = tensor.dtype !== "float64" && tensor.dtype !== "float32";
  noGrad(() =>
    tidy(() => {
      const x = narrow ? empty(tensor.shape, { device: tensor.device }) : tensor;
      x.uniform_(2 * cdf(a) - 1, 2 * cdf(b) - 1, generator ?? null)
        .clamp_({ min: -largest, max: largest })
        .erfinv_()
        .mul_(std * Math.SQRT2)
        .add_(mean)
        .clamp_({ min: a, max: b });
      if (narrow) tensor.copy_(x);
    }),
  );
  return tensor;
}

/** Inputs and outputs of a weight: [out, in] or [out, in, kH, kW]. */
export function fans(tensor: Tensor): { fanIn: number; fanOut: number } {
  const [out = 1, inputs = 1, ...kernel] = tensor.shape;
  const area = kernel.reduce((x, y) => x * y, 1);
  return { fanIn: inputs * area, fanOut: out * area };
}

/** Uniform with bound gain sqrt(6 / (fanIn + fanOut)). Fans may be given for weights that are several matrices or a flattened kernel. */
export function xavierUniform_(
  tensor: Tensor,
  { gain = 1, fanIn, fanOut, generator }: { gain?: number; fanIn?: number; fanOut?: number } & Random = {},
): Tensor {
  const own = fans(tensor);
  const bound = gain * Math.sqrt(6 / ((fanIn ?? own.fanIn) + (fanOut ?? own.fanOut)));
  return uniform_(tensor, -bound, bound, generator ? { generator } : {});
}

/** torch's default for Linear and Conv2d: uniform with bound 1 / sqrt(fanIn) (Kaiming with a = sqrt 5). */
export function kaimingUniform_(tensor: Tensor, { fanIn, generator }: { fanIn?: number } & Random = {}): Tensor {
  const bound = 1 / Math.sqrt(fanIn ?? fans(tensor).fanIn);
  return uniform_(tensor, -bound, bound, generator ? { generator } : {});
}

export function uniform_(tensor: Tensor, from: number, to: number, { generator }: Random = {}): Tensor {
  return noGrad(() => tensor.uniform_(from, to, generator ?? null));
}
export function normal_(tensor: Tensor, { mean = 0, std = 1, generator }: { mean?: number; std?: number } & Random = {}): Tensor {
  return noGrad(() => tensor.normal_(mean, std, generator ?? null));
}
export function constant_(tensor: Tensor, value: number): Tensor {
  return noGrad(() => tensor.fill_(value));
}
