// RePre's reconstruction decoder (Wang et al., 2022): light, convolutional, and fed by several levels of the encoder, from the deepest to
// the shallowest.
//
// The paper says that much; its layers are not public. These are ours. Each level is normalised over its channels and brought to the
// decoder's width by a 1x1 convolution (`laterals`). Then, from deep to shallow, what has been decoded so far is fused with the next level:
// side by side along the channels (`concat`) or added (`sum`), and through a 3x3 convolution, batch norm and ReLU (`fusions`). Two forms of
// the way back to pixels:
//   deconvolution   one transposed convolution before each fusion and, after the last, one for each prime factor that is left; widths halve.
//                   A level whose grid is coarser than the decoder's is brought to it bilinearly.
//   sub-pixel       fusions on the levels' own grids, then all pixels of a cell at once and a pixel shuffle, which is several times cheaper
import { Conv2d, LayerNorm, Module, Sequential } from "../nn/index.js";
import { cat, interpolate, pixelShuffle, type Tensor } from "../torch/index.js";
import { convStage, primeFactors, upStage } from "./decoder-stages.js";
import type { LevelShape } from "./encoder.js";

export interface FusionDecoderConfig {
  /** Channels and stride of each level that feeds it, from shallow to deep. */
  levels: readonly LevelShape[];
  /** Channels of the image. */
  channels: number;
  /** Default concat. */
  fusion?: "concat" | "sum";
  /** Default deconvolution. */
  form?: "deconvolution" | "sub-pixel";
  /** Width at the deepest level; with deconvolutions it halves at each one, down to `narrowest`. Default 256. */
  width?: number;
  /** Default 32. */
  narrowest?: number;
  /** Batch norm in each stage. Default true. */
  batchNorm?: boolean;
}

/** Without what lies beyond a size: a grid that was filled up to be halved, as Swin's may be, comes back larger than it was. */
const cropped = (maps: Tensor, [height, width]: readonly [number, number]): Tensor =>
  maps.size(2) === height && maps.size(3) === width ? maps : maps.slice(2, 0, height).slice(3, 0, width);

/** One level on its way in: what brings the decoder to its grid, and what fuses the two. */
class Fusion extends Module {
  up: Sequential;
  lateral: Conv2d;
  fuse: Sequential;
  readonly #concat: boolean;
  /** Whether the decoder has come to the level's own grid; else it is on a finer one. */
  readonly #arrived: boolean;

  constructor(up: Module[], lateral: Conv2d, fuse: Module[], { concat, arrived }: { concat: boolean; arrived: boolean }) {
    super();
    this.up = new Sequential(...up);
    this.lateral = lateral;
    this.fuse = new Sequential(...fuse);
    this.#concat = concat;
    this.#arrived = arrived;
  }

  forward(x: Tensor, level: Tensor): Tensor {
    const finer = this.up.call(x);
    const own = this.lateral.call(level);
    const decoded = this.#arrived ? cropped(finer, [own.size(2), own.size(3)]) : finer;
    const size = [decoded.size(2), decoded.size(3)] as const;
    const fitted = this.#arrived ? own : interpolate(own, { size, mode: "bilinear" });
    return this.fuse.call(this.#concat ? cat([decoded, fitted], 1) : decoded.add(fitted));
  }
}

export class FusionDecoder extends Module {
  norms: LayerNorm[];
  stem: Conv2d;
  fusions: Fusion[];
  stages: Sequential;
  pixels: Conv2d;
  readonly #strides: readonly number[];
  readonly #shuffle: number;

  constructor(config: FusionDecoderConfig) {
    super();
    const { levels, channels, fusion = "concat", form = "deconvolution" } = config;
    const { width = 256, narrowest = 32, batchNorm = true } = config;
    const deepest = levels.at(-1)!;
    this.#strides = levels.map(({ stride }) => stride);
    this.norms = levels.map((level) => new LayerNorm(level.width));
    this.stem = new Conv2d(deepest.width, width, 1);
    const factors = primeFactors(deepest.stride);
    let [at, stride] = [width, deepest.stride];
    /** The stage that takes the next factor. */
    const finer = (): Module[] => {
      const factor = factors.shift()!;
      const to = form === "deconvolution" ? Math.max(narrowest, Math.round(at / 2)) : at;
      const stage = upStage(at, to, factor, batchNorm);
      at = to;
      stride /= factor;
      return stage;
    };
    this.fusions = levels
      .slice(0, -1)
      .reverse()
      .map((level) => {
        const up: Module[] = [];
        if (form === "deconvolution" && factors.length > 0) up.push(...finer());
        while (stride > level.stride && factors.length > 0) up.push(...finer());
        const lateral = new Conv2d(level.width, at, 1);
        const concat = fusion === "concat";
        const fuse = convStage(concat ? 2 * at : at, at, batchNorm);
        return new Fusion(up, lateral, fuse, { concat, arrived: stride === level.stride });
      });
    if (form === "deconvolution") {
      const rest: Module[] = [];
      while (factors.length > 0) rest.push(...finer());
      this.stages = new Sequential(...rest);
      this.pixels = new Conv2d(at, channels, 3, { padding: 1 });
      this.#shuffle = 1;
    } else {
      this.stages = new Sequential(...convStage(at, at, batchNorm));
      this.pixels = new Conv2d(at, channels * stride ** 2, 3, { padding: 1 });
      this.#shuffle = stride;
    }
  }

  /**
   * @param levels tokens of each level without class token, [B, n_i, C_i], from shallow to deep
   * @param size height and width of the images
   * @returns images [B, channels, height, width]
   */
  forward(levels: readonly Tensor[], [height, width]: readonly [number, number]): Tensor {
    const maps = levels.map((tokens, i) => {
      const stride = this.#strides[i]!;
      const [batch = 0, , channels = 0] = tokens.shape;
      const normed = this.norms[i]!.call(tokens).transpose(1, 2);
      return normed.reshape([batch, channels, Math.ceil(height / stride), Math.ceil(width / stride)]);
    });
    let x = this.stem.call(maps.at(-1)!);
    for (const [i, fusion] of this.fusions.entries()) x = fusion.call(x, maps.at(-2 - i)!);
    const pixels = this.pixels.call(this.stages.call(x));
    return cropped(this.#shuffle > 1 ? pixelShuffle(pixels, this.#shuffle) : pixels, [height, width]);
  }
}
