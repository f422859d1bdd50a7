// The door of src/fit: what every training has, pre-training and the supervised ones: checkpoints, the log, progress, signals, the lock of a
// folder; and the loop of the supervised ones.
export * from "./checkpoint.js";
export * from "./errors.js";
export { type FitOptions, type FitProgress, type FitResult, type FitTask, fitModel, type Scores } from "./fit.js";
export { FitFolder, readSettings, type Settings } from "./folder.js";
export { lockRun } from "./lock.js";
export { type MetricsLine, MetricsLog, secondsIn } from "./metrics-log.js";
export * from "./progress.js";
export { listenForStop, type StopRequest } from "./signals.js";
export { tesseraVersion, type Versions, versions } from "./version.js";
