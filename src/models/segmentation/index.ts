// What src/models offers for semantic segmentation. Part of the folder's door.
export { FcnHead, type FcnHeadConfig } from "./fcn-head.js";
export { SegmentationHead } from "./layers.js";
export { LinearHead } from "./linear-head.js";
export { type Segmented, Segmenter, type SegmenterConfig } from "./segmenter.js";
export { TokenMaps } from "./token-maps.js";
export { UperHead, type UperHeadConfig } from "./uper-head.js";
