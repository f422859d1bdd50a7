// DINO's projection head (Caron et al., 2021, section 3.1 and appendix C).
import { BatchNorm1d, GELU, init, Linear, Module, Sequential, WeightNormLinear } from "../nn/index.js";
import { normalize, type Tensor } from "../torch/index.js";

export interface DinoHeadConfig {
  /** Channels that come in. */
  inFeatures: number;
  /** K: number of prototypes. Default 65536. */
  outFeatures?: number;
  /** Default 2048. */
  hidden?: number;
  /** Default 256. */
  bottleneck?: number;
  /** Linear layers before the last, the bottleneck's included. Default 3. */
  layers?: number;
  /** Batch norm after each hidden layer. Default false, as for ViTs. */
  batchNorm?: boolean;
  /** Keep the prototypes' lengths at 1. Default true; DINO trains them for ViT-S only. */
  normLastLayer?: boolean;
}

/** Perceptron with GELU, L2 normalisation, then a weight-normed layer of K prototypes: the outputs are cosines while the lengths are 1. */
export class DinoHead extends Module {
  mlp: Module;
  lastLayer: WeightNormLinear;
  readonly outFeatures: number;

  constructor(config: DinoHeadConfig) {
    super();
    const { inFeatures, outFeatures = 65536, hidden = 2048, bottleneck = 256, layers = 3, batchNorm = false } = config;
    this.outFeatures = outFeatures;
    const widths = [inFeatures, ...Array.from({ length: Math.max(1, layers) - 1 }, () => hidden), bottleneck];
    const parts: Module[] = [];
    for (let i = 0; i + 1 < widths.length; i++) {
      const linear = new Linear(widths[i]!, widths[i + 1]!);
      init.truncNormal_(linear.weight);
      if (linear.bias) init.constant_(linear.bias, 0);
      parts.push(linear);
      if (i + 2 < widths.length) {
        if (batchNorm) parts.push(new BatchNorm1d(hidden));
        parts.push(new GELU());
      }
    }
    // A single layer has no number in the official checkpoints.
    this.mlp = parts.length === 1 ? parts[0]! : new Sequential(...parts);
    // The directions keep torch's default initialisation: in the reference this layer is made after the custom one ran.
    this.lastLayer = new WeightNormLinear(bottleneck, outFeatures, { unitNorm: true });
    if (config.normLastLayer ?? true) this.lastLayer.weightG.requiresGrad = false;
  }

  /** [B, in] -> [B, bottleneck] of length 1: what the prototypes are compared with. */
  embed(x: Tensor): Tensor {
    return normalize(this.mlp.call(x) as Tensor);
  }

  /** [B, in] -> logits [B, K] */
  forward(x: Tensor): Tensor {
    return this.lastLayer.call(this.embed(x));
  }
}
