// Mask R-CNN (He et al. 2017) over a pyramid of feature maps: proposals, their classes and boxes, their masks. The rules, defaults and names are
// torchvision's, so that its weights' names fit: backbone.fpn, rpn, roi_heads; the backbone's body is this library's (backbone.body.encoder).
import { Module, ShapeError } from "../../nn/index.js";
import { type Tensor, tidy } from "../../torch/index.js";
import type { Pyramid } from "../pyramid.js";
import { AnchorGenerator } from "./anchors.js";
import type { ImageSize } from "./boxes.js";
import { FpnBackbone } from "./fpn.js";
import type { ScaledMap } from "./roi-align.js";
import { type Detections, type RoiConfig, RoiHeads } from "./roi-heads.js";
import { type ProposalConfig, RegionProposalNetwork } from "./rpn.js";
import { type DetectionTarget, readyTarget } from "./targets.js";

export interface MaskRcnnConfig {
  /** Number of classes, without the background. */
  classes: number;
  /** Channels of the feature pyramid network. Default 256. */
  channels?: number;
  /** Sides of the anchors at each of the five levels, in pixels. Default: one of eight cells, which is 32 to 512 for cells of 4 to 64 px. */
  anchorSizes?: readonly (readonly number[])[];
  /** Height over width of the anchors. Default 0.5, 1, 2. */
  anchorRatios?: readonly number[];
  rpn?: ProposalConfig;
  roi?: RoiConfig;
}

/** The losses of a training step, by torchvision's names. */
export type DetectionLosses = Record<"loss_objectness" | "loss_rpn_box_reg" | "loss_classifier" | "loss_box_reg", Tensor> & {
  loss_mask?: Tensor;
};

export class MaskRcnn extends Module {
  backbone: FpnBackbone;
  rpn: RegionProposalNetwork;
  roiHeads: RoiHeads;

  constructor(
    body: Pyramid,
    readonly config: MaskRcnnConfig,
  ) {
    super();
    const { classes, channels = 256, anchorRatios } = config;
    if (!Number.isInteger(classes) || classes < 1) throw new ShapeError(`a detector needs at least one class, got ${classes}`);
    this.backbone = new FpnBackbone(body, channels);
    const sizes = config.anchorSizes ?? this.backbone.strides.map((stride) => [8 * stride]);
    const anchors = new AnchorGenerator({ sizes, ...(anchorRatios && { ratios: anchorRatios }) });
    this.rpn = new RegionProposalNetwork(channels, anchors, config.rpn);
    this.roiHeads = new RoiHeads(channels, classes, config.roi);
  }

  /** As detect. */
  forward(images: Tensor, sizes: readonly ImageSize[]): Detections[] {
    return this.detect(images, sizes);
  }

  /**
   * The losses of a batch.
   *
   * @param images [B, 3, H, W], padded on the right and at the bottom
   * @param targets the objects of each image
   */
  losses(images: Tensor, targets: readonly DetectionTarget[]): DetectionLosses {
    return tidy(() => {
      const { maps, padded } = this.#look(images, targets.length);
      const wide = maps[0]!.dtype === "float64" ? "float64" : "float32";
      const ready = targets.map((target) => readyTarget(target, wide));
      const sizes = targets.map(({ size }) => size);
      const { proposals, losses: first } = this.rpn.call(maps, padded, sizes, ready);
      const second = this.roiHeads.losses(this.#regionMaps(maps), proposals, ready);
      return {
        loss_objectness: first!.objectness,
        loss_rpn_box_reg: first!.rpnBoxReg,
        loss_classifier: second.classifier,
        loss_box_reg: second.boxReg,
        ...(second.mask && { loss_mask: second.mask }),
      };
    });
  }

  /**
   * What is in the images, in their pixels.
   *
   * @param images [B, 3, H, W], padded on the right and at the bottom
   * @param sizes height and width of each image inside the padding
   */
  detect(images: Tensor, sizes: readonly ImageSize[]): Detections[] {
    return tidy(() => {
      const { maps, padded } = this.#look(images, sizes.length);
      const { proposals } = this.rpn.call(maps, padded, sizes);
      return this.roiHeads.detect(this.#regionMaps(maps), proposals, sizes);
    });
  }

  #look(images: Tensor, count: number): { maps: Tensor[]; padded: ImageSize } {
    if (images.size(0) !== count) throw new ShapeError(`the batch has ${images.size(0)} images, but ${count} sizes were given`);
    return { maps: this.backbone.call(images), padded: images.shape.slice(2) as [number, number] };
  }

  /** The extra level makes proposals, but regions are not read from it. */
  #regionMaps(maps: readonly Tensor[]): ScaledMap[] {
    return maps.slice(0, -1).map((map, i) => ({ map, scale: 1 / this.backbone.strides[i]! }));
  }
}
