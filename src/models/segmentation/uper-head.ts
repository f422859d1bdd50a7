// UPerNet (Xiao et al., 2018) as mmsegmentation has it. The coarsest map goes through pyramid pooling (means over grids of 1, 2, 3 and 6, Zhao et
// al., 2017); from there down each map is added to the finer one beside it; all four are brought to the finest grid and seen together.
import type { Conv2d, Sequential } from "../../nn/index.js";
import { cat, type Tensor } from "../../torch/index.js";
import { AdaptivePool, ConvModule, classifier, resizedTo, SegmentationHead, sequence } from "./layers.js";

export interface UperHeadConfig {
  /** Channels of the maps, finest first. */
  widths: readonly number[];
  classes: number;
  /** Default 512. */
  channels?: number;
  /** Sides of the grids of pyramid pooling. Default [1, 2, 3, 6]. */
  poolScales?: readonly number[];
  /** Default 0.1. */
  dropout?: number;
}

export class UperHead extends SegmentationHead {
  pspModules: Sequential[];
  bottleneck: ConvModule;
  lateralConvs: ConvModule[];
  fpnConvs: ConvModule[];
  fpnBottleneck: ConvModule;
  convSeg: Conv2d;

  constructor({ widths, classes, channels = 512, poolScales = [1, 2, 3, 6], dropout = 0.1 }: UperHeadConfig) {
    super(dropout);
    const coarsest = widths.at(-1)!;
    const finer = widths.slice(0, -1);
    this.pspModules = poolScales.map((bins) => sequence(new AdaptivePool(bins), new ConvModule(coarsest, channels, 1)));
    this.bottleneck = new ConvModule(coarsest + poolScales.length * channels, channels, 3);
    this.lateralConvs = finer.map((width) => new ConvModule(width, channels, 1));
    this.fpnConvs = finer.map(() => new ConvModule(channels, channels, 3));
    this.fpnBottleneck = new ConvModule(widths.length * channels, channels, 3);
    this.convSeg = classifier(channels, classes);
  }

  forward(maps: readonly Tensor[]): Tensor {
    const merged = [...this.lateralConvs.map((conv, i) => conv.call(maps[i]!)), this.#pooled(maps.at(-1)!)];
    for (let i = merged.length - 1; i > 0; i--) {
      const finer = merged[i - 1]!;
      merged[i - 1] = finer.add(resizedTo(merged[i]!, finer.size(2), finer.size(3)));
    }
    const [height, width] = merged[0]!.shape.slice(2) as [number, number];
    const seen = merged.map((map, i) => resizedTo(this.fpnConvs[i]?.call(map) ?? map, height, width));
    return this.classify(this.fpnBottleneck.call(cat(seen, 1)));
  }

  #pooled(map: Tensor): Tensor {
    const [height, width] = map.shape.slice(2) as [number, number];
    const parts = this.pspModules.map((each) => resizedTo(each.call(map), height, width));
    return this.bottleneck.call(cat([map, ...parts], 1));
  }
}
