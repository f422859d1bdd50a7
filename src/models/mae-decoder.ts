// MAE's decoder (He et al., 2022, section 3 and its code): mask tokens and visible ones with their positions, blocks, the pixels of the masked patches.
import { buffer, init, LayerNorm, Linear, Module, parameter } from "../nn/index.js";
import { cat, empty, noGrad, type Tensor, tidy, zeros } from "../torch/index.js";
import { Block, throughBlocks } from "./block.js";
import { gatherTokens } from "./patches.js";
import { type Grid, sinCosPositions } from "./position.js";

export interface MaeDecoderConfig {
  /** Channels of the encoder's tokens. */
  inFeatures: number;
  /** Numbers that are predicted of a patch: P P channels. */
  outFeatures: number;
  /** Rows and columns of patches. */
  grid: Grid;
  /** Tokens before the patches. */
  prefix: number;
  /** Default 512. */
  width?: number;
  /** Default 8. */
  depth?: number;
  /** Default 16. */
  heads?: number;
}

export class MaeDecoder extends Module {
  decoderEmbed: Linear;
  maskToken: Tensor;
  decoderPosEmbed: Tensor;
  decoderBlocks: Block[];
  decoderNorm: LayerNorm;
  decoderPred: Linear;
  readonly prefix: number;
  gradientCheckpointing = false;

  constructor(config: MaeDecoderConfig) {
    super();
    const { inFeatures, outFeatures, grid, prefix, width = 512, depth = 8, heads = 16 } = config;
    this.prefix = prefix;
    this.decoderEmbed = new Linear(inFeatures, width);
    this.maskToken = parameter(init.normal_(empty([1, 1, width]), { std: 0.02 }));
    // MAE's code puts the column first.
    this.decoderPosEmbed = buffer(
      tidy(() => cat([zeros([1, prefix, width]), sinCosPositions(grid, width, { order: "column-row" }).unsqueeze(0)], 1)),
    );
    this.decoderBlocks = Array.from({ length: depth }, () => new Block({ width, heads }));
    this.decoderNorm = new LayerNorm(width);
    this.decoderPred = new Linear(width, outFeatures);
    noGrad(() => {
      this.apply((module) => {
        if (!(module instanceof Linear)) return;
        init.xavierUniform_(module.weight);
        if (module.bias) init.constant_(module.bias, 0);
      });
    });
  }

  /**
   * @param tokens the encoder's, [B, prefix + n, C]
   * @param visible numbers of their patches, int64 [B, n]
   * @param masked numbers of the masked patches, int64 [B, m]
   * @returns what is predicted of the masked patches, [B, m, out]
   */
  forward(tokens: Tensor, visible: Tensor, masked: Tensor): Tensor {
    const { prefix, gradientCheckpointing, decoderPosEmbed: positions } = this;
    const at = (patches: Tensor) => gatherTokens(positions.slice(1, prefix), patches);
    const before = positions.narrow(1, 0, prefix).expand([tokens.size(0), -1, -1]);
    const seen = this.decoderEmbed.call(tokens).add(cat([before, at(visible)], 1));
    // A block does not mind the order of its tokens. With the masked ones, which alone have a loss, in front the last block ends with them.
    const x = cat([at(masked).add(this.maskToken), seen], 1);
    const hidden = throughBlocks(this.decoderBlocks, x, { gradientCheckpointing, queries: masked.size(1) });
    return this.decoderPred.call(this.decoderNorm.call(hidden));
  }
}
