// The door of the evaluators.
export { type AttentiveProbeOptions, type AttentiveProbeResult, attentiveProbe } from "./attentive.js";
export {
  type AttentiveOptions,
  type AttentivePlan,
  type AttentivePreset,
  attentiveOptions,
  attentivePlan,
  attentivePresets,
} from "./attentive-plan.js";
export * from "./class-report.js";
export * from "./detection/index.js";
export * from "./errors.js";
export {
  type EvaluationLoader,
  type ExtractOptions,
  extractFeatures,
  type FeatureFunction,
  type FeatureStore,
  type Features,
  onlyReadout,
  pixelFeatures,
} from "./features.js";
export { type FinetuneOptions, type FinetuneResult, finetune } from "./finetune.js";
export { Classifier, type EncoderChanges, exportClassifier, trainableEncoder } from "./finetune-model.js";
export {
  type FinetuneInput,
  type FinetunePreset,
  type FinetuneSettings,
  finetunePlan,
  finetunePresetNames,
  finetunePresets,
  finetuneSettings,
} from "./finetune-settings.js";
export { type KeepOptions, removeKept } from "./keep.js";
export * from "./knn.js";
export {
  type FitLinearOptions,
  fitLinear,
  type LabelledFeatures,
  type LinearProbeOptions,
  type LinearProbeResult,
  type LinearResult,
  linearProbe,
} from "./linear.js";
export {
  type LinearOptions,
  type LinearPlan,
  type LinearPreset,
  linearOptions,
  linearPlan,
  linearPresets,
} from "./linear-plan.js";
export { drawMix, type Mix, type MixOptions, mixImages, softTargets } from "./mixup.js";
export { type NearestOptions, type Neighbors, nearestNeighbors } from "./neighbors.js";
export * from "./online.js";
export type { Accuracy, MemberResult, ProbeResult } from "./probe-judge.js";
export { type MemberRates, type ProbeOptions, type ProbePlan, probeOptions } from "./probe-plan.js";
export type { ProbeImages } from "./probe-source.js";
export type { TrainingProgress } from "./probe-train.js";
export { RandomErasing } from "./random-erasing.js";
export * from "./readout.js";
export { type Confusion, confusionOf } from "./scores.js";
export * from "./segmentation/index.js";
