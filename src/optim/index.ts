// The door of what moves the weights: parameter groups, optimisers, schedules, clipping and the momentum teacher.
export { AdamW, type AdamWConfig } from "./adamw.js";
export * from "./clip.js";
export * from "./ema.js";
export * from "./errors.js";
export * from "./groups.js";
export { LARS, type LARSConfig } from "./lars.js";
export { Optimizer, type OptimizerConfig, type OptimizerState } from "./optimizer.js";
export { cosine, linear, type RunLength, type Schedule, type ScheduleSpec, schedule, type Warmup } from "./schedule.js";
export { SGD, type SGDConfig } from "./sgd.js";
