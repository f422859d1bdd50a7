// The door of the methods: what they are, and the two frameworks they stand on.
export { attentionGuidedMask, randomMask } from "./attention-mask.js";
export { type BlockMaskOptions, blockMask, scatteredMask } from "./block-mask.js";
export { Cae, type CaeForward, type CaeOptions, cae, caeOptions } from "./cae.js";
export { type CaeBatch, type CaeLoss, type CaeTarget, type CaeTargetOptions, createTarget } from "./cae-targets.js";
export { Dino, DinoNetwork, type DinoOptions, dino, dinoOptions, teacherTemperature } from "./dino.js";
export { dinoLoss, meanEntropy, teacherDistribution } from "./dino-loss.js";
export { gumbelNoise, klToUniform, logitLaplace, meanImageLoss, sampleCodes, usageKl } from "./dvae-loss.js";
export { MethodOptionError, UnknownMethodError } from "./errors.js";
export { type Contrasted, type Framework, globalCrops } from "./framework.js";
export { infoNce } from "./info-nce.js";
export { Mae, type MaeOptions, mae, maeOptions, type PatchChoice } from "./mae.js";
export * from "./method.js";
export { MocoNetwork, MocoV3, type MocoV3Options, mocoV3, mocoV3Options } from "./moco-v3.js";
export { Mst, type MstOptions, mst, mstOptions } from "./mst.js";
export {
  type MultiCropOptions,
  multiCropOptions,
  multiCropViews,
  type TwoCropOptions,
  twoCropOptions,
  twoCropViews,
} from "./multi-crop.js";
export { type PlainCropOptions, plainCropOptions, plainCropViews } from "./plain-crop.js";
export { type Predicted, Randsac, type RandsacOptions, randsac, randsacOptions } from "./randsac.js";
export { type BlobOptions, blobLevels, type Level, segmentRanks, shuffled, squareLevels } from "./randsac-segments.js";
export { type MethodOptions, type MethodSection, methodNamed, methods, registerMethod, trainsEncoder } from "./registry.js";
export { levelsOf, Repre, type RepreOptions, repre, repreOptions } from "./repre.js";
export { type TokenizerOptions, TokenizerTraining, tokenizer, tokenizerOptions } from "./tokenizer.js";
