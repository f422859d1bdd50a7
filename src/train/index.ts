// The door of training: recipes, runs and what they leave behind.
export { applyOverrides } from "../config/index.js";
export {
  type CheckpointInfo,
  describeCheckpoint,
  duration,
  listCheckpoints,
  type MetricsLine,
  MetricsLog,
  NonFiniteError,
  newestCheckpoint,
  type ProgressState,
  progressLine,
  type Reporter,
  RunError,
  silentReporter,
  streamReporter,
  tesseraVersion,
  versions,
} from "../fit/index.js";
export { replayCapture } from "./capture.js";
export { loadCheckpoint } from "./checkpoint.js";
export { loadRecipe, RecipeFileError, readRecipe } from "./load-recipe.js";
export { CollapseMonitor } from "./monitors.js";
export { evaluationPlan, knnSplits } from "./online-knn.js";
export { type PretrainOptions, pretrain, type RunSummary } from "./pretrain.js";
export * from "./recipe.js";
export { RunFolder } from "./run-folder.js";
export { backboneConfigOf, createEncoder, createMethod, freshEncoder } from "./session.js";
export { showRun } from "./show.js";
export { createStepper, type Stepper } from "./stepper.js";
export {
  type ArmInput,
  defineStudy,
  loadStudy,
  resolveStudy,
  type Study,
  type StudyArm,
  type StudyInput,
} from "./study.js";
export { missing, studyFacts, studyMarkdown, studyTable, verdicts } from "./study-markdown.js";
export { withSection, writeIntoPage } from "./study-page.js";
export { planStudy, type StudyPlan, type StudyRun } from "./study-plan.js";
export { makeReport, type StudyReport, type StudyRow } from "./study-report.js";
export { runStudy, type StudyOptions, type StudyOutcome } from "./study-run.js";
