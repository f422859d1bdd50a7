// The fully convolutional head (Long et al., 2015) as mmsegmentation has it: 3x3 convolutions on one map of the backbone, by request another one
// over what goes in and what comes out, then the classes. With one convolution it is UPerNet's auxiliary head.
import type { Conv2d } from "../../nn/index.js";
import { cat, type Tensor } from "../../torch/index.js";
import { ConvModule, classifier, SegmentationHead } from "./layers.js";

export interface FcnHeadConfig {
  /** Channels of the map. */
  width: number;
  classes: number;
  /** Which of the backbone's maps; negative from the coarsest. */
  map: number;
  /** Default 256. */
  channels?: number;
  /** 3x3 convolutions. Default 2. */
  convs?: number;
  /** A last convolution sees the map beside what the convolutions made of it. Default true. */
  concat?: boolean;
  /** Default 0.1. */
  dropout?: number;
}

export class FcnHead extends SegmentationHead {
  convs: ConvModule[];
  convCat: ConvModule | null;
  convSeg: Conv2d;
  readonly #map: number;

  constructor({ width, classes, map, channels = 256, convs = 2, concat = true, dropout = 0.1 }: FcnHeadConfig) {
    super(dropout);
    this.convs = Array.from({ length: convs }, (_, i) => new ConvModule(i === 0 ? width : channels, channels, 3));
    const out = convs === 0 ? width : channels;
    this.convCat = concat ? new ConvModule(width + out, channels, 3) : null;
    this.convSeg = classifier(concat ? channels : out, classes);
    this.#map = map;
  }

  forward(maps: readonly Tensor[]): Tensor {
    const map = maps.at(this.#map)!;
    const seen = this.convs.reduce((x, conv) => conv.call(x), map);
    return this.classify(this.convCat ? this.convCat.call(cat([map, seen], 1)) : seen);
  }
}
