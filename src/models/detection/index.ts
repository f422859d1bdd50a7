// Detection and instance segmentation. Part of the models' door.
export { type AnchorConfig, AnchorGenerator } from "./anchors.js";
export {
  BOX_WEIGHTS,
  type BoxWeights,
  boxAreas,
  boxCoverage,
  boxIou,
  clipBoxes,
  decodeBoxes,
  encodeBoxes,
  type ImageSize,
} from "./boxes.js";
export { FeaturePyramidNetwork, FpnBackbone } from "./fpn.js";
export { type BoxLoss, binaryCrossEntropy } from "./losses.js";
export { type PastedMask, pasteMask, projectMasks } from "./mask-project.js";
export { type DetectionLosses, MaskRcnn, type MaskRcnnConfig } from "./mask-rcnn.js";
export { MATCH, type MatchRule, matchBoxes, type Sampled, sampleBalanced } from "./matcher.js";
export { type NmsOptions, nms } from "./nms.js";
export { boxLevels, type RoiAlignOptions, roiAlign, type ScaledMap } from "./roi-align.js";
export { type Detections, type RoiConfig, RoiHeads } from "./roi-heads.js";
export { type ProposalConfig, RegionProposalNetwork } from "./rpn.js";
export type { DetectionTarget } from "./targets.js";
