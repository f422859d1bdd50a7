// The door of training: recipes, runs and what they leave behind.
export { replayCapture } from "./capture.js";
export { type CheckpointInfo, describeCheckpoint, listCheckpoints, loadCheckpoint, newestCheckpoint } from "./checkpoint.js";
export * from "./errors.js";
export { loadRecipe, RecipeFileError, readRecipe } from "./load-recipe.js";
export { type MetricsLine, MetricsLog } from "./metrics-log.js";
export { CollapseMonitor } from "./monitors.js";
export { evaluationPlan, knnSplits } from "./online-knn.js";
export { applyOverrides } from "./overrides.js";
export { type PretrainOptions, pretrain, type RunSummary } from "./pretrain.js";
export { duration, type ProgressState, progressLine, type Reporter, silentReporter, streamReporter } from "./progress.js";
export * from "./recipe.js";
export { RunFolder } from "./run-folder.js";
export { backboneConfigOf, createEncoder, createMethod, freshEncoder } from "./session.js";
export { showRun } from "./show.js";
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
export { tesseraVersion, versions } from "./version.js";
