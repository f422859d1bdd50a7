// The door of drawing: grids of images, objects, masks, attention maps and charts, as RGB images and PNG files.
export { type Bar, type BarOptions, barChart } from "./bars.js";
export { type ChartOptions, lineChart, type Series } from "./chart.js";
export { type Colormap, colorOf } from "./colormap.js";
export { DrawError } from "./errors.js";
export { type GridOptions, grid, stacked, transposed } from "./grid.js";
export {
  blank,
  blendPixel,
  type Color,
  enlarge,
  factorFor,
  fillRect,
  greyed,
  imagesOf,
  type Picture,
  paste,
  type RgbImage,
} from "./image.js";
export { type MatrixOptions, matrixPicture } from "./matrix.js";
export { classColor, type DrawnObject, drawObjects } from "./objects.js";
export {
  type HeatOptions,
  heatImage,
  keptImage,
  maskedImage,
  outlinedImage,
  type PatchValues,
  patchGrids,
  topMass,
} from "./patches.js";
export { type AttentionOptions, attentionGrid, type ReconstructionOptions, readable, reconstructionGrid } from "./pictures.js";
export { encodePng, writePictures, writePng } from "./png.js";
export { type LabelledImage, labelColor, labelledImage, type SegmentationGridOptions, segmentationGrid } from "./segmentation.js";
export { type StripOptions, type StripPanel, type StripRow, stripChart } from "./strip.js";
export { drawText, fitText, type TextOptions, textHeight, textWidth } from "./text.js";
