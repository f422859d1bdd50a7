// Initial weights of a Vision Transformer, as each family of papers has them.
import { init, Linear } from "../nn/index.js";
import { noGrad } from "../torch/index.js";
import type { VisionTransformer } from "./vit.js";

/**
 * - `dino`: truncated normal std 0.02 for Linears, positions and class token; biases 0; the patch projection keeps torch's default (DINO,
 *   DeiT).
 * - `timm`: the same, but the class token is normal with std 1e-6 (timm).
 * - `mae`: Xavier uniform for Linears and for the patch projection flattened to a matrix; class token normal std 0.02 (MAE).
 * - `moco-v3`: Xavier uniform, with q, k and v as three matrices; the patch projection flattened; class token normal std 1e-6 (MoCo v3).
 * - `cae`: Xavier uniform for Linears, q, k and v as one matrix; patch projection and class token truncated normal std 0.02, cut at one
 *   standard deviation (CAE).
 */
export type VitInit = "dino" | "timm" | "mae" | "moco-v3" | "cae";

export function initVit(vit: VisionTransformer, kind: VitInit): void {
  noGrad(() => {
    const xavier = kind === "mae" || kind === "moco-v3" || kind === "cae";
    const cut = { std: 0.02, a: -0.02, b: 0.02 };
    vit.apply((module, name) => {
      if (!(module instanceof Linear)) return;
      if (!xavier) init.truncNormal_(module.weight);
      else if (kind === "moco-v3" && name.endsWith("qkv")) {
        init.xavierUniform_(module.weight, { fanIn: vit.width, fanOut: vit.width });
      } else init.xavierUniform_(module.weight);
      if (module.bias) init.constant_(module.bias, 0);
    });
    if (vit.config.positions === "learned") init.truncNormal_(vit.posEmbed);
    if (vit.clsToken) {
      if (kind === "dino") init.truncNormal_(vit.clsToken);
      else if (kind === "cae") init.truncNormal_(vit.clsToken, cut);
      else init.normal_(vit.clsToken, { std: kind === "mae" ? 0.02 : 1e-6 });
    }
    const { proj } = vit.patchEmbed;
    if (kind === "cae") {
      init.truncNormal_(proj.weight, cut);
      if (proj.bias) init.constant_(proj.bias, 0);
    } else if (xavier) {
      init.xavierUniform_(proj.weight, { fanIn: vit.channels * vit.stride ** 2, fanOut: vit.width });
      if (proj.bias && kind === "moco-v3") init.constant_(proj.bias, 0);
    }
  });
}
