// An encoder with a head that gives every pixel a class. Names are mmsegmentation's: backbone, decode_head, auxiliary_head.
import { Module, ShapeError } from "../../nn/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Encoder } from "../encoder.js";
import { createPyramid, type Pyramid } from "../pyramid.js";
import { FcnHead } from "./fcn-head.js";
import type { SegmentationHead } from "./layers.js";
import { LinearHead } from "./linear-head.js";
import { TokenMaps } from "./token-maps.js";
import { UperHead } from "./uper-head.js";

export interface SegmenterConfig {
  /** Number of classes. */
  classes: number;
  /** `linear` and `fcn` see the patch tokens after the final norm, `upernet` a feature pyramid. */
  head: "linear" | "fcn" | "upernet";
  /** Width of the head's convolutions; `width` is that of the encoder. Default 512 for UPerNet, 256 for FCN. */
  channels?: number | "width" | undefined;
  /** Dropout of channels before the classes. Default 0.1, of the linear head 0. */
  dropout?: number | undefined;
  /** Convolutions of the FCN. Default 2. */
  convs?: number | undefined;
  /** How many of the last blocks' tokens the linear head and the FCN see side by side. Default 1. */
  lastBlocks?: number | undefined;
  /** The levels of the encoder that UPerNet's pyramid takes. Default: see pyramid.ts. */
  levels?: readonly number[] | undefined;
  /** Width of UPerNet's auxiliary FCN head on the pyramid's third map, which only trains; 0 for none. Default 256. */
  auxiliaryChannels?: number | undefined;
  /** The encoder is not trained, and stays in evaluation mode. Default false. */
  frozen?: boolean | undefined;
}

/** Scores of the classes on the head's own grid [B, classes, h, w]; those of the auxiliary head while training, where there is one. */
export interface Segmented {
  logits: Tensor;
  auxiliary: Tensor | null;
}

export class Segmenter extends Module {
  backbone: Pyramid | TokenMaps;
  decodeHead: SegmentationHead;
  auxiliaryHead: FcnHead | null;
  readonly frozen: boolean;
  readonly classes: number;

  constructor(encoder: Encoder, config: SegmenterConfig) {
    super();
    const { classes, head, dropout, convs, lastBlocks, levels, auxiliaryChannels = 256, frozen = false } = config;
    if (!(Number.isInteger(classes) && classes >= 2))
      throw new ShapeError(`a segmenter of ${classes} classes; expected 2 or more`);
    const channels = config.channels === "width" ? encoder.width : config.channels;
    this.classes = classes;
    this.frozen = frozen;
    this.backbone = head === "upernet" ? createPyramid(encoder, { levels }) : new TokenMaps(encoder, lastBlocks);
    const { widths } = this.backbone;
    const rest = { ...(channels !== undefined && { channels }), ...(dropout !== undefined && { dropout }) };
    if (head === "linear") this.decodeHead = new LinearHead(widths[0]!, classes, dropout);
    else if (head === "upernet") this.decodeHead = new UperHead({ widths, classes, ...rest });
    else {
      const depth = convs === undefined ? {} : { convs };
      this.decodeHead = new FcnHead({ width: widths[0]!, classes, map: 0, ...rest, ...depth });
    }
    const auxiliary = head === "upernet" && auxiliaryChannels > 0;
    this.auxiliaryHead = auxiliary
      ? new FcnHead({ width: widths[2]!, classes, map: 2, channels: auxiliaryChannels, convs: 1, concat: false })
      : null;
    if (frozen) encoder.requiresGrad_(false);
    this.train();
  }

  get encoder(): Encoder {
    return this.backbone.encoder;
  }

  /** As for every module; a frozen encoder stays in evaluation mode. */
  override train(mode = true): this {
    super.train(mode);
    if (this.frozen) this.encoder.eval();
    return this;
  }

  /** @param images [B, C, H, W], sides as the encoder takes them */
  forward(images: Tensor): Segmented {
    const maps = this.backbone.call(images);
    return {
      logits: this.decodeHead.call(maps),
      auxiliary: this.training && this.auxiliaryHead ? this.auxiliaryHead.call(maps) : null,
    };
  }
}
