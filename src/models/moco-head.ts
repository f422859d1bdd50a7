// MoCo v3's projection and prediction heads (Chen et al., 2021, section 4.3 and its code): Linear layers without bias, batch norm and ReLU
// between them, and a last batch norm without scale and shift.
import { BatchNorm1d, Linear, type Module, ReLU, Sequential } from "../nn/index.js";

export interface MocoHeadConfig {
  inFeatures: number;
  /** Default 4096. */
  hidden?: number;
  /** Default 256. */
  outFeatures?: number;
  /** Linear layers: 3 in the projector, 2 in the predictor. */
  layers: number;
}

/** [B, in] -> [B, out]. State-dict names are the positions of the reference code: `0.weight`, `1.running_mean`. */
export class MocoHead extends Sequential {
  constructor({ inFeatures, hidden = 4096, outFeatures = 256, layers }: MocoHeadConfig) {
    const parts: Module[] = [];
    for (let i = 0; i < layers; i++) {
      const last = i + 1 === layers;
      const to = last ? outFeatures : hidden;
      parts.push(new Linear(i === 0 ? inFeatures : hidden, to, { bias: false }), new BatchNorm1d(to, { affine: !last }));
      if (!last) parts.push(new ReLU());
    }
    super(...parts);
  }
}
