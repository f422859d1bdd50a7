// DINO on Fashion-MNIST with a small ViT: mst-fashion-mnist.ts without mask and decoder.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/dino-fashion-mnist.ts --out runs/dino-fashion-mnist
//
// DIR has Fashion-MNIST's four .gz files; Debian's package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist, which is found
// without the variable.
//
// DINO's: the method with its temperatures, centring and momentum. Ours: all that follows from 28 px: two crops and no local ones, no flips (clothes
// are not mirrored), no blur, a small head with batch norm, which keeps a model of this size from collapse.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "dino-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 7, width: 96, depth: 4, heads: 3 },
  method: {
    name: "dino",
    crops: {
      globalSize: 28,
      globalScale: [0.5, 1],
      locals: 0,
      interpolation: "bilinear",
      flip: 0,
      jitter: { brightness: 0.4, contrast: 0 },
      blur: [0, 0, 0],
      solarize: 0,
    },
    head: { outFeatures: 1024, hidden: 256, bottleneck: 64, batchNorm: true },
    freezeLastLayer: 0,
  },
  optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25, weightDecay: 0.04 },
  train: { epochs: 24, batchSize: 64, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 50 },
  knn: { readout: "class+mean", everyEpochs: 2, k: [20] },
});
