// MST's global image decoder (Li et al., 2021, section 3.3): from the grid of patch tokens back to the whole image.
//
// The paper says that it is convolutional and that it restores the whole image from masked and unmasked tokens. Its layers are not
// published; these are ours, in two forms:
//   deconvolution   a 1x1 convolution, one transposed convolution for each prime factor of the patch size with widths halving, and a 3x3
//                   convolution to pixels
//   sub-pixel       a 1x1 convolution, a 3x3 convolution, and a 3x3 convolution to all pixels of a patch at once, rearranged by pixel
//                   shuffle (Shi et al., 2016). All its work is done on the grid of patches, which is several times cheaper.
import { Conv2d, Module, Sequential } from "../nn/index.js";
import { pixelShuffle, type Tensor } from "../torch/index.js";
import { convStage, primeFactors, upStage } from "./decoder-stages.js";
import type { Grid } from "./position.js";

export interface ImageDecoderConfig {
  /** Channels of the tokens. */
  inFeatures: number;
  /** Pixels per token and side; its prime factors are the stages. */
  stride: number;
  /** Channels of the image. */
  channels: number;
  /** Default deconvolution. */
  form?: "deconvolution" | "sub-pixel";
  /** Width of the first stage; with deconvolutions it halves at each one, down to `narrowest`. Default 256. */
  width?: number;
  /** Default 32. */
  narrowest?: number;
  /** Batch norm in each stage. Default true. */
  batchNorm?: boolean;
}

export class ImageDecoder extends Module {
  stem: Conv2d;
  stages: Sequential;
  pixels: Conv2d;
  readonly #shuffle: number;

  constructor(config: ImageDecoderConfig) {
    super();
    const { inFeatures, stride, channels, form = "deconvolution", width = 256, narrowest = 32, batchNorm = true } = config;
    this.stem = new Conv2d(inFeatures, width, 1);
    if (form === "sub-pixel") {
      this.stages = new Sequential(...convStage(width, width, batchNorm));
      this.pixels = new Conv2d(width, channels * stride ** 2, 3, { padding: 1 });
      this.#shuffle = stride;
      return;
    }
    const layers: Module[] = [];
    let from = width;
    for (const factor of primeFactors(stride)) {
      const to = Math.max(narrowest, Math.round(from / 2));
      layers.push(...upStage(from, to, factor, batchNorm));
      from = to;
    }
    this.stages = new Sequential(...layers);
    this.pixels = new Conv2d(from, channels, 3, { padding: 1 });
    this.#shuffle = 1;
  }

  /** Patch tokens [B, rows * columns, C] -> images [B, channels, rows * stride, columns * stride] */
  forward(patches: Tensor, [rows, columns]: Grid): Tensor {
    const [batch = 0, , width = 0] = patches.shape;
    const grid = patches.transpose(1, 2).reshape([batch, width, rows, columns]);
    const pixels = this.pixels.call(this.stages.call(this.stem.call(grid)));
    return this.#shuffle > 1 ? pixelShuffle(pixels, this.#shuffle) : pixels;
  }
}
