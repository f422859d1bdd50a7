// What src/data offers of COCO's data. Part of the folder's door.
export { CocoDataset, type ObjectShape } from "./dataset.js";
export { boxOverlaps, type CrowdFlags, maskOverlaps } from "./overlap.js";
export { polygonMask, polygonsMask } from "./polygon.js";
export { type CocoOptions, readCoco } from "./read.js";
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
export type { CocoCategory } from "./table.js";
