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
export { type Readout, readoutOf } from "./readout.js";
export * from "./recipe.js";
export { RunFolder } from "./run-folder.js";
export { createEncoder, createMethod, vitConfigOf } from "./session.js";
export { showRun } from "./show.js";
export { tesseraVersion, versions } from "./version.js";
