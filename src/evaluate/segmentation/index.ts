// What src/evaluate offers of semantic segmentation. Part of the folder's door.
export { type ClassScore, PixelConfusion, type SegmentationScores, segmentationScores } from "./confusion.js";
export { type InferenceOptions, predict, type SavedTest, scoresOf, slidingScores, windowStarts } from "./infer.js";
export { IGNORE, pixelLoss, type SegmentationLossOptions, segmentationLoss } from "./loss.js";
export { type Measured, type MeasureOptions, measureSegmenter } from "./measure.js";
export { isSegmenterFile, loadSegmenter, type SavedSegmenter, saveSegmenter } from "./saved.js";
export {
  type SegmentFindings,
  type SegmentOptions,
  type SegmentResult,
  segment,
  sharedPixelClasses,
  type TestOptions,
  testSegmenter,
} from "./segment.js";
export {
  type SegmentInput,
  type SegmentPreset,
  type SegmentSettings,
  savedTest,
  segmentPlan,
  segmentPresetNames,
  segmentPresets,
  segmentSettings,
} from "./settings.js";
