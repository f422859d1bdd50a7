// What src/data offers of COCO's data. Part of the folder's door.
export { CocoDataset, type ObjectShape } from "./dataset.js";
export { JsonFile, type JsonPart } from "./json-file.js";
export { createDetectionLoader, DetectionLoader, type DetectionLoaderOptions, type RawDetectionBatch } from "./loader.js";
export { boxOverlaps, type CrowdFlags, maskOverlaps } from "./overlap.js";
export { type DetectionPlan, type DetectionPlanOptions, type DetectionResize, detectionPlan } from "./plan.js";
export { polygonMask, polygonsMask } from "./polygon.js";
export { type CocoOptions, readCoco, readCocoTruth } from "./read.js";
export {
  decodeMask,
  encodeMask,
  fromRleJson,
  type MaskPlace,
  type MaskSize,
  maskArea,
  maskBox,
  mergeMasks,
  packCounts,
  paintMask,
  type Rle,
  type RleJson,
  toRleJson,
  unpackCounts,
} from "./rle.js";
export type { DetectionSampleBytes } from "./sample.js";
export type { CocoCategory } from "./table.js";
export { type DetectionBatch, type DetectionSample, detectionTensors } from "./tensors.js";
