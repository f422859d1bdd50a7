// The door for users: what a program or a recipe needs most. Everything else is in tessera/torch, tessera/nn, tessera/optim, tessera/data,
// tessera/models, tessera/methods, tessera/train, tessera/evaluate and tessera/draw.

export { createLoader, type Dataset, openDataset, registerDataset, verifyDataset } from "./data/index.js";
export { TesseraError } from "./errors.js";
export { evaluateKnn, extractFeatures, type KnnEvaluation, knn, pixelFeatures } from "./evaluate/index.js";
export {
  defineMethod,
  type Method,
  type MethodContext,
  type MethodDefinition,
  type MethodOptions,
  registerMethod,
} from "./methods/index.js";
export {
  type Encoded,
  type Encoder,
  loadEncoder,
  loadVit,
  type SwinConfig,
  SwinTransformer,
  VisionTransformer,
  type VitConfig,
  vitSizes,
} from "./models/index.js";
export { manualSeed, noGrad, type Tensor, tensor, tidy, versionInfo } from "./torch/index.js";
export {
  ConfigError,
  type ConfigIssue,
  defineRecipe,
  defineStudy,
  loadRecipe,
  loadStudy,
  type PretrainOptions,
  pretrain,
  type Recipe,
  type RecipeInput,
  type Reporter,
  type RunSummary,
  resolveRecipe,
  runStudy,
  type Study,
  type StudyInput,
  silentReporter,
  streamReporter,
} from "./train/index.js";
