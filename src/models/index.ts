// The door of the models: backbones, heads and decoders.
export * from "./block.js";
export * from "./checkpoint.js";
export * from "./dino-head.js";
export * from "./dvae.js";
export * from "./dvae-weights.js";
export * from "./encoder.js";
export * from "./fusion-decoder.js";
export * from "./image-decoder.js";
export * from "./mae-decoder.js";
export * from "./moco-head.js";
export * from "./patches.js";
export * from "./position.js";
export * from "./regressor.js";
export * from "./segment-decoder.js";
export type { Tokenizer } from "./tokenizer.js";
export * from "./vit.js";
export type { VitInit } from "./vit-init.js";
