// The discrete VAE of DALL-E (Ramesh et al., 2021, section 2.1 and appendix A.1, and its released code) in free sizes: a convolutional
// encoder that gives each cell of an image logits over a codebook, and a decoder that makes an image of codes.
//
//   encoder   7x7 convolution; groups of residual blocks, widths doubling, 2x2 max-pool between groups; ReLU, 1x1 convolution to logits
//   decoder   1x1 convolution of the (one-hot or soft) codes; the mirror with nearest upsampling; ReLU, 1x1 convolution to 2 x channels:
//             mean and log-scale of a logit-Laplace distribution of each pixel
//
// Pixels are in 0..1 outside and in 0.1..0.9 inside (`mapPixels`), which keeps the logit finite. State-dict names are those of the released
// weights, under `encoder.` and `decoder.`.
import { Module } from "../nn/index.js";
import { atLeastFloat32, cat, interpolate, linear, maxPool2d, noGrad, type Tensor, tidy } from "../torch/index.js";
import { DvaeBlock, DvaeConv, DvaeStack, dvaeGroup, dvaeOutput, inFullPrecision } from "./dvae-layers.js";
import { checkCells, checkImages, checkPositions, type Tokenizer } from "./tokenizer.js";

/** Defaults are the released model's. */
export interface DvaeConfig {
  /** Channels of the images. Default 3. */
  channels?: number;
  /** Width of the encoder's first group, a multiple of 4; it doubles from group to group. Default 256. */
  width?: number;
  /** Width of the decoder's last group, a multiple of 4. Default 256. */
  decoderWidth?: number;
  /** Groups of blocks; a cell is 2^(groups - 1) pixels wide. Default 4. */
  groups?: number;
  /** Default 2. */
  blocksPerGroup?: number;
  /** Number of codes. Default 8192. */
  vocabulary?: number;
  /** Width at which codes enter the decoder. Default 128. */
  decoderInit?: number;
}

export const dvaeDefaults: Required<DvaeConfig> = {
  channels: 3,
  width: 256,
  decoderWidth: 256,
  groups: 4,
  blocksPerGroup: 2,
  vocabulary: 8192,
  decoderInit: 128,
};

const epsilon = 0.1;
/** 0..1 -> 0.1..0.9 */
export const mapPixels = (x: Tensor): Tensor => x.mul(1 - 2 * epsilon).add(epsilon);
/** The inverse of mapPixels, cut to 0..1. */
export const unmapPixels = (x: Tensor): Tensor =>
  x
    .sub(epsilon)
    .div(1 - 2 * epsilon)
    .clamp({ min: 0, max: 1 });

/** The blocks of a group, the first of which changes the width. */
function blocksOf(from: number, to: number, count: number, kernels: ConstructorParameters<typeof DvaeBlock>[2], gain: number) {
  return Array.from({ length: count }, (_, i) => new DvaeBlock(i === 0 ? from : to, to, kernels, gain));
}

export class DvaeEncoder extends Module {
  blocks: DvaeStack;

  constructor({ channels, width, groups, blocksPerGroup, vocabulary }: Required<DvaeConfig>) {
    super();
    const gain = 1 / (groups * blocksPerGroup) ** 2;
    const layers: Record<string, Module> = { input: new DvaeConv(channels, width, 7) };
    for (let group = 0; group < groups; group++) {
      const blocks = blocksOf(width * 2 ** Math.max(0, group - 1), width * 2 ** group, blocksPerGroup, [3, 3, 3, 1], gain);
      const pool = { name: "pool", fn: (x: Tensor) => maxPool2d(x, 2) };
      layers[`group_${group + 1}`] = dvaeGroup(blocks, group + 1 < groups ? pool : undefined);
    }
    layers.output = dvaeOutput(width * 2 ** (groups - 1), vocabulary);
    this.blocks = new DvaeStack(layers);
  }

  /** Mapped images [B, channels, H, W] -> logits [B, vocabulary, rows, columns], float32 */
  forward(mapped: Tensor): Tensor {
    return inFullPrecision(this.features(mapped), (features) => this.blocks.layers.output!.call(features) as Tensor);
  }

  /** What the output layer sees of mapped images, [B, C, rows, columns]. */
  features(mapped: Tensor): Tensor {
    return tidy(() => {
      let x = mapped;
      for (const [name, layer] of Object.entries(this.blocks.layers)) if (name !== "output") x = layer.call(x) as Tensor;
      return x;
    });
  }

  /** The most likely codes of rows of features [n, C], int64 [n]: the output layer, so many rows at a time that logits stay small. */
  codes(features: Tensor): Tensor {
    return tidy(() => {
      const { w, b } = (this.blocks.layers.output as DvaeStack).layers.conv as DvaeConv;
      const matrix = w.flatten(1);
      const rows = Math.max(1, Math.floor(2 ** 23 / w.size(0)));
      const pieces = features.size(0) > rows ? features.split(rows) : [features];
      const codes = pieces.map((piece) => tidy(() => inFullPrecision(piece, (x) => linear(x.relu(), matrix, b)).argmax(1)));
      return codes.length === 1 ? codes[0]! : cat(codes);
    });
  }
}

export class DvaeDecoder extends Module {
  blocks: DvaeStack;

  constructor({ channels, decoderWidth: width, groups, blocksPerGroup, vocabulary, decoderInit }: Required<DvaeConfig>) {
    super();
    const gain = 1 / (groups * blocksPerGroup) ** 2;
    const layers: Record<string, Module> = { input: new DvaeConv(vocabulary, decoderInit, 1) };
    let from = decoderInit;
    for (let group = 0; group < groups; group++) {
      const to = width * 2 ** (groups - 1 - group);
      const upsample = { name: "upsample", fn: (x: Tensor) => interpolate(x, { scaleFactor: [2, 2] }) };
      const blocks = blocksOf(from, to, blocksPerGroup, [1, 3, 3, 3], gain);
      layers[`group_${group + 1}`] = dvaeGroup(blocks, group + 1 < groups ? upsample : undefined);
      from = to;
    }
    layers.output = dvaeOutput(width, 2 * channels);
    this.blocks = new DvaeStack(layers);
  }

  /**
   * @param codes weights of the codes, [B, vocabulary, rows, columns]: one-hot, or a point between codes
   * @returns mean and log-scale of the logit-Laplace distribution, [B, 2 channels, H, W]: the sigmoid of the first half is the mapped image
   */
  forward(codes: Tensor): Tensor {
    return this.#afterInput(inFullPrecision(codes, (x) => this.blocks.layers.input!.call(x) as Tensor));
  }

  /** As forward, of code numbers [B, rows, columns]: their columns of the input layer are looked up. */
  ofCodes(ids: Tensor): Tensor {
    return tidy(() => {
      const { w, b } = this.blocks.layers.input as DvaeConv;
      const [batch = 0, rows = 0, columns = 0] = ids.shape;
      const cells = w.flatten(1).indexSelect(1, ids.flatten()).add(b.unsqueeze(1));
      return this.#afterInput(
        cells
          .reshape([w.size(0), batch, rows, columns])
          .transpose(0, 1)
          .contiguous(),
      );
    });
  }

  #afterInput(x: Tensor): Tensor {
    let out = x;
    for (const [name, layer] of Object.entries(this.blocks.layers)) if (name !== "input") out = layer.call(out) as Tensor;
    return out;
  }
}

/** Encoder and decoder. State-dict names: `encoder.blocks.*`, `decoder.blocks.*`. */
export class Dvae extends Module implements Tokenizer {
  encoder: DvaeEncoder;
  /** Null where only an encoder was loaded. */
  decoder: DvaeDecoder | null;
  readonly config: Required<DvaeConfig>;

  /** @param parts.decoder false makes the encoder alone, which is all that a method needs for its targets. Default true. */
  constructor(config: DvaeConfig = {}, { decoder = true }: { decoder?: boolean } = {}) {
    super();
    this.config = { ...dvaeDefaults, ...config };
    this.encoder = new DvaeEncoder(this.config);
    this.decoder = decoder ? new DvaeDecoder(this.config) : null;
  }

  get vocabulary(): number {
    return this.config.vocabulary;
  }
  get stride(): number {
    return 2 ** (this.config.groups - 1);
  }
  get channels(): number {
    return this.config.channels;
  }
  get decodes(): boolean {
    return this.decoder !== null;
  }

  /** What the codes keep of images: [B, channels, H, W] in 0..1, both. */
  forward(images: Tensor): Tensor {
    return this.decode(this.encode(images));
  }

  encode(images: Tensor): Tensor {
    checkImages(this, images);
    return tidy(() =>
      noGrad(() => {
        const features = this.encoder.features(mapPixels(images));
        const [batch = 0, channels = 0, rows = 0, columns = 0] = features.shape;
        const byCell = features.permute([0, 2, 3, 1]).reshape([-1, channels]);
        return this.encoder.codes(byCell).reshape([batch, rows, columns]);
      }),
    );
  }

  encodeAt(images: Tensor, positions: Tensor): Tensor {
    checkImages(this, images);
    checkPositions(images, positions);
    return tidy(() =>
      noGrad(() => {
        const features = this.encoder.features(mapPixels(images)).flatten(2);
        const [batch = 0, channels = 0] = features.shape;
        const count = positions.size(1);
        const chosen = features.gather(2, positions.unsqueeze(1).expand([batch, channels, count]));
        return this.encoder.codes(chosen.transpose(1, 2).reshape([-1, channels])).reshape([batch, count]);
      }),
    );
  }

  decode(ids: Tensor): Tensor {
    checkCells(this, ids);
    return tidy(() => noGrad(() => this.imageOf(this.#decoder().ofCodes(ids))));
  }

  /** The image of a decoder's output [B, 2 channels, H, W]: the sigmoid of the means, in 0..1. */
  imageOf(output: Tensor): Tensor {
    return tidy(() => unmapPixels(atLeastFloat32(output).narrow(1, 0, this.channels).sigmoid()));
  }

  #decoder(): DvaeDecoder {
    if (this.decoder) return this.decoder;
    throw new TypeError("this tokenizer was loaded without a decoder: it makes codes of images, but no images of codes");
  }
}
