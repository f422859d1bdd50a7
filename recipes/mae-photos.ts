// A small encoder for photographs in a folder, without labels: MAE with patches of 16 px.
//
//     PHOTOS=DIR npx tessera pretrain recipes/mae-photos.ts --out runs/photos
//
// What it is for: hundreds of photographs and minutes of a CPU, to go from images to segmentation and detection (docs/walkthrough.md). For an
// encoder that is worth shipping take more images and longer: recipes/mae-imagenet.ts.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "mae-photos",
  data: { train: `folder:${process.env.PHOTOS || "data/photos"}` },
  model: { patchSize: 16, width: 192, depth: 6, heads: 3 },
  method: { name: "mae", crops: { globalSize: 160 }, decoderWidth: 96, decoderDepth: 2, decoderHeads: 3 },
  optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 2 },
  train: { epochs: 40, batchSize: 32, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 20, cacheMegabytes: 400 },
  knn: { everyEpochs: 0 },
});
