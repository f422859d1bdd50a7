// What src/data offers of images with a class for every pixel. Part of the folder's door.
export { CocoMasksDataset } from "./coco-masks.js";
export { type Distortion, distort, drawDistortion } from "./distort.js";
export { decodeIndexPng, type IndexImage, IndexPngError } from "./index-png.js";
export { classesOfText, type LabelMap, labelMap, mapLabels, type PixelClass } from "./label-map.js";
export { resizedPlanes, SegmentationMaker } from "./maker.js";
export { MaskError, MaskFolderDataset } from "./mask-folder.js";
export type { MaskOptions } from "./open.js";
export {
  checkSegmentationPlan,
  type FitSize,
  fitted,
  IGNORE_LABEL,
  type SegmentationPlan,
  type SegmentationPlanOptions,
  segmentationPlan,
} from "./plan.js";
