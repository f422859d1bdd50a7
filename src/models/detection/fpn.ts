// Feature pyramid network (Lin et al. 2017): every level gets what the coarser ones know. torchvision's names, and its extra level by pooling.
import { Conv2d, init, Module, Sequential } from "../../nn/index.js";
import { interpolate, maxPool2d, type Tensor, tidy } from "../../torch/index.js";
import type { Pyramid } from "../pyramid.js";

const convolution = (from: number, to: number, kernel: number): Sequential => {
  const made = new Conv2d(from, to, kernel, { padding: (kernel - 1) / 2 });
  // Kaiming's uniform for a linear layer: a gain of 1.
  const bound = Math.sqrt(3 / (from * kernel * kernel));
  init.uniform_(made.weight, -bound, bound);
  init.constant_(made.bias!, 0);
  return new Sequential(made);
};

export class FeaturePyramidNetwork extends Module {
  innerBlocks: Sequential[];
  layerBlocks: Sequential[];

  constructor(widths: readonly number[], channels: number) {
    super();
    this.innerBlocks = widths.map((width) => convolution(width, channels, 1));
    this.layerBlocks = widths.map(() => convolution(channels, channels, 3));
  }

  /**
   * @param maps [B, widths[i], H_i, W_i], finest first
   * @returns [B, channels, H_i, W_i], and one more level of every second cell of the last
   */
  forward(maps: readonly Tensor[]): Tensor[] {
    const results: Tensor[] = [];
    let above: Tensor | undefined;
    for (let i = maps.length - 1; i >= 0; i--) {
      const inner = this.innerBlocks[i]!.call(maps[i]!);
      const size = inner.shape.slice(2) as [number, number];
      above = above ? inner.add(interpolate(above, { size, mode: "nearest" })) : inner;
      results.unshift(this.layerBlocks[i]!.call(above));
    }
    return [...results, maxPool2d(results.at(-1)!, 1, { stride: 2 })];
  }
}

/** A backbone's pyramid with the network over it: what a detector looks at. */
export class FpnBackbone extends Module {
  body: Pyramid;
  fpn: FeaturePyramidNetwork;
  /** Pixels of the image behind one cell of each level, the extra one among them. */
  readonly strides: readonly number[];

  constructor(body: Pyramid, channels: number) {
    super();
    this.body = body;
    this.fpn = new FeaturePyramidNetwork(body.widths, channels);
    this.strides = [...body.strides, 2 * body.strides.at(-1)!];
  }

  forward(images: Tensor): Tensor[] {
    return tidy(() => this.fpn.call(this.body.call(images)));
  }
}
