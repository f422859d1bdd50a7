// What src/evaluate offers of detection. Part of the folder's door.
export { type CocoCategoryScores, type CocoEvaluation, type CocoScores, evaluateCoco } from "./coco-eval.js";
export { type DetectionPictureOptions, detectionPicture } from "./pictures.js";
export { type CocoKind, type CocoResult, readCocoResults } from "./results.js";
