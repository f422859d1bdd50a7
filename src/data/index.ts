// The door of src/data: datasets, views and the loader.
export { ArrayDataset, type ArrayImages } from "./arrays.js";
export { Augmenter } from "./augment.js";
export type { BadReport } from "./bad.js";
export { cached } from "./cache.js";
export { cachedInFile } from "./cache-file.js";
export * from "./coco/index.js";
export type { Dataset, DatasetSpec, Split } from "./dataset.js";
export { sharedBytes, sharedInts } from "./dataset.js";
export { type DecodeOptions, decodeFile, imageExtensions } from "./decode.js";
export { BadSampleError, DataError } from "./errors.js";
export type { FolderOptions } from "./folder.js";
export { createLoader, Loader, type LoaderOptions, type Position, type RawBatch, type RawView } from "./loader.js";
export { batchesPerEpoch, epochOrder } from "./order.js";
export { type Pixels, toGrey } from "./pixels.js";
export { outputsOf, type Plan, type PlanOutput } from "./plan.js";
export { type RandAugmentOp, randAugmentOps } from "./rand-augment.js";
export type { BadSample } from "./reader.js";
export { type DatasetOpener, type OpenOptions, openDataset, parseSpec, registerDataset, restoreDataset } from "./registry.js";
export { type Interpolation, resample, type Window } from "./resample.js";
export { namedStream, Rng } from "./rng.js";
export * from "./segmentation/index.js";
export { subset } from "./subset.js";
export {
  type Batch,
  denormalise,
  type PixelBatch,
  type PixelScale,
  planesTensor,
  type ToTensorsOptions,
  toPixelTensors,
  toTensors,
} from "./tensors.js";
export * from "./transforms.js";
export { type Verification, type VerifyOptions, verifyDataset } from "./verify.js";
export {
  checkPlan,
  dinoViews,
  evalViews,
  mocoViews,
  type Normalization,
  type PairedView,
  type PlanOptions,
  plainViews,
  type ViewPlan,
  type ViewSpec,
  viewBytes,
} from "./views.js";
