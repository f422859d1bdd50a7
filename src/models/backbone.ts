// A backbone by its name and options, as recipes and files have them.
import type { Encoder } from "./encoder.js";
import { type SwinConfig, SwinTransformer } from "./swin.js";
import { VisionTransformer, type VitConfig } from "./vit.js";

/** `vit` where no name is given. */
export type BackboneConfig = ({ name?: "vit" } & VitConfig) | ({ name: "swin" } & SwinConfig);

/** The backbone with freshly initialised weights. */
export function createBackbone(config: BackboneConfig): Encoder {
  if (config.name === "swin") {
    const { name: _, ...rest } = config;
    return new SwinTransformer(rest);
  }
  const { name: _, ...rest } = config;
  return new VisionTransformer(rest);
}
