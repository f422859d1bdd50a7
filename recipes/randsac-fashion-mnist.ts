// RandSAC on Fashion-MNIST with a small ViT, longer than the demo: blobs in partitions.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/randsac-fashion-mnist.ts --out runs/randsac-fashion-mnist
//
// DIR has Fashion-MNIST's four .gz files; Debian's package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist, which is found
// without the variable.
//
// The paper's: blobs 11 -> 5 (its low-data setting), learned skips, normalised pixels, fixed positions, no class token. Ours: 28 px in patches
// of 4 (a 7 x 7 grid, which squares of 2 do not divide), the decoder's size, crops from half of the area, MAE's optimiser, 100 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "randsac-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "randsac",
    crops: { globalSize: 28, globalScale: [0.5, 1] },
    segments: { kind: "blob", count: 11, partitions: [5] },
    decoderDepth: 3,
    decoderHeads: 3,
  },
  optimizer: { lr: 5e-4, warmupEpochs: 5 },
  train: { epochs: 100, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
