// The door of the methods: what they are, and the two frameworks they stand on.
export { attentionGuidedMask, randomMask } from "./attention-mask.js";
export { Dino, DinoNetwork, type DinoOptions, dino, dinoOptions, teacherTemperature } from "./dino.js";
export { dinoLoss, meanEntropy, teacherDistribution } from "./dino-loss.js";
export { UnknownMethodError } from "./errors.js";
export * from "./method.js";
export { Mst, type MstOptions, mst, mstOptions } from "./mst.js";
export { type MultiCropOptions, multiCropOptions, multiCropViews } from "./multi-crop.js";
export { type PlainCropOptions, plainCropOptions, plainCropViews } from "./plain-crop.js";
export { type MethodOptions, type MethodSection, methodNamed, methods, registerMethod } from "./registry.js";
