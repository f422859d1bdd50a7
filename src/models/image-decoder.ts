// MST's global image decoder (Li et al., 2021, section 3.3): from the grid of patch tokens back to the whole image.
//
// The paper says that it is convolutional and that it restores the whole image from masked and unmasked tokens. Its layers are not
// published; these are ours, in two forms:
//   deconvolution   a 1x1 convolution, one transposed convolution for each prime factor of the patch size with widths halving, and a 3x3
//                   convolution to pixels
//   sub-pixel       a 1x1 convolution, a 3x3 convolution, and a 3x3 convolution to all pixels of a patch at once, rearranged by pixel
//                   shuffle (Shi et al., 2016). All its work is done on the grid of patches, which is several times cheaper.
import { BatchNorm2d, Conv2d, ConvTranspose2d, Module, ReLU, Sequential } from "../nn/index.js";
import { pixelShuffle, type Tensor } from "../torch/index.js";
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

function primeFactors(n: number): number[] {
  const factors: number[] = [];
  for (let p = 2; n > 1; p++) for (; n % p === 0; n /= p) factors.push(p);
  return factors;
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
    const stage = (convolution: Module, out: number) => [convolution, ...(batchNorm ? [new BatchNorm2d(out)] : []), new ReLU()];
    if (form === "sub-pixel") {
      this.stages = new Sequential(...stage(new Conv2d(width, width, 3, { padding: 1, bias: !batchNorm }), width));
      this.pixels = new Conv2d(width, channels * stride ** 2, 3, { padding: 1 });
      this.#shuffle = stride;
      return;
    }
    const layers: Module[] = [];
    let from = width;
    for (const factor of primeFactors(stride)) {
      const to = Math.max(narrowest, Math.round(from / 2));
      // Kernel 4 for a factor of 2 overlaps its neighbours, which keeps the checkerboard away; other factors use their own size.
      const geometry = factor === 2 ? { kernel: 4, stride: 2, padding: 1 } : { kernel: factor, stride: factor, padding: 0 };
      const { kernel, ...rest } = geometry;
      layers.push(...stage(new ConvTranspose2d(from, to, kernel, { ...rest, bias: !batchNorm }), to));
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
