// The linear protocol of segmentation: batch norm and one 1x1 convolution on the patch tokens (the heads of iBOT's and DINOv2's code).
import { BatchNorm2d, type Conv2d } from "../../nn/index.js";
import type { Tensor } from "../../torch/index.js";
import { classifier, SegmentationHead } from "./layers.js";

export class LinearHead extends SegmentationHead {
  bn: BatchNorm2d;
  convSeg: Conv2d;

  constructor(width: number, classes: number, dropout = 0) {
    super(dropout);
    this.bn = new BatchNorm2d(width);
    this.convSeg = classifier(width, classes);
  }

  forward(maps: readonly Tensor[]): Tensor {
    return this.classify(this.bn.call(maps.at(-1)!));
  }
}
