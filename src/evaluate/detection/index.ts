// What src/evaluate offers of detection. Part of the folder's door.
export { type CocoCategoryScores, type CocoEvaluation, type CocoScores, evaluateCoco } from "./coco-eval.js";
export { type DetectOptions, detectObjects } from "./detect.js";
export { type DetectionOptions, type DetectionResult, trainDetector } from "./detection.js";
export {
  type DetectionInput,
  type DetectionPreset,
  type DetectionSettings,
  detectionPresetNames,
  detectionPresets,
  detectionSettings,
  detectionSettingsOf,
} from "./detection-settings.js";
export {
  checkCategories,
  type Detector,
  type DetectorConfig,
  detectorOn,
  exportDetector,
  isDetectorFile,
  loadDetector,
} from "./detector.js";
export { detectionScores, type TestDetectorOptions, testDetector } from "./judge.js";
export { type DetectionPictureOptions, detectionPicture } from "./pictures.js";
export { type CocoKind, type CocoResult, readCocoResults } from "./results.js";
