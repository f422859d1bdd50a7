// What segmentation heads are made of, by the names that mmsegmentation's checkpoints have.
import { BatchNorm2d, Conv2d, init, Module, Sequential } from "../../nn/index.js";
import { dropout, interpolate, ones, op, type Tensor } from "../../torch/index.js";

const adaptiveAvgPool2d = op("adaptive_avg_pool2d");

/** Convolution without bias, batch norm, ReLU; keeps the grid. He's initialisation for what comes out. */
export class ConvModule extends Module {
  conv: Conv2d;
  bn: BatchNorm2d;

  constructor(from: number, to: number, kernel: 1 | 3) {
    super();
    this.conv = new Conv2d(from, to, kernel, { padding: (kernel - 1) / 2, bias: false });
    this.bn = new BatchNorm2d(to);
    init.normal_(this.conv.weight, { std: Math.sqrt(2 / (to * kernel * kernel)) });
  }

  forward(x: Tensor): Tensor {
    return this.bn.call(this.conv.call(x)).relu();
  }
}

/** Means over a grid of `bins` x `bins` fields of the map. */
export class AdaptivePool extends Module {
  constructor(readonly bins: number) {
    super();
  }
  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, [this.bins, this.bins]);
  }
}

/** Zeroes whole channels of an image with probability p while training. */
class ChannelDropout extends Module {
  constructor(readonly p: number) {
    super();
  }
  forward(x: Tensor): Tensor {
    if (this.p === 0 || !this.training) return x.alias();
    const [batch = 0, channels = 0] = x.shape;
    return x.mul(dropout(ones([batch, channels, 1, 1], { dtype: x.dtype, device: x.device }), this.p, true));
  }
}

/** What every head ends with: dropout of channels and a score for each class. Weights start at a deviation of 0.01, biases at 0. */
export abstract class SegmentationHead extends Module {
  readonly #dropout: ChannelDropout;

  constructor(dropoutRate: number) {
    super();
    this.#dropout = new ChannelDropout(dropoutRate);
  }

  abstract readonly convSeg: Conv2d;
  /** @param maps of the backbone, finest first @returns scores [B, classes, h, w] on the head's own grid */
  abstract override forward(maps: readonly Tensor[]): Tensor;

  protected classify(x: Tensor): Tensor {
    this.#dropout.training = this.training;
    return this.convSeg.call(this.#dropout.call(x));
  }
}

/** The 1x1 convolution to the classes. */
export function classifier(width: number, classes: number): Conv2d {
  const made = new Conv2d(width, classes, 1);
  init.normal_(made.weight, { std: 0.01 });
  init.constant_(made.bias!, 0);
  return made;
}

/** A map resized bilinearly to the rows and columns of another, corners not aligned. */
export function resizedTo(x: Tensor, height: number, width: number): Tensor {
  if (x.size(2) === height && x.size(3) === width) return x;
  return interpolate(x, { size: [height, width], mode: "bilinear" });
}

/** Layers one after another whose names are their positions. */
export const sequence = (...layers: Module[]): Sequential => new Sequential(...layers);
