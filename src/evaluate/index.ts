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
export { type NearestOptions, type Neighbors, nearestNeighbors } from "./neighbors.js";
export * from "./online.js";
export { type MemberRates, type ProbeOptions, type ProbePlan, probeOptions } from "./probe-plan.js";
export type { ProbeImages } from "./probe-source.js";
export type { Accuracy, MemberResult, ProbeResult, TrainingProgress } from "./probe-train.js";
export * from "./readout.js";
export { type Confusion, confusionOf } from "./scores.js";
