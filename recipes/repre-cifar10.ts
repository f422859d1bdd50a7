// RePre on CIFAR-10 over MoCo v3, with a small ViT: moco-v3-cifar10.ts and the branch beside it.
//
//     CIFAR10=DIR npx tessera pretrain recipes/repre-cifar10.ts --out runs/repre-cifar10
//     ... --set 'method.levels=[-1]'           the control that reconstructs from the last block only
//
// DIR and the framework's settings are explained in moco-v3-cifar10.ts. RePre's: raw pixels, a convolutional decoder over several levels.
// Ours: blocks 2, 3, 5 and 6 of 6 (equal distances), L1, lambda 1, both views, and the decoder's layers, here in the sub-pixel form, which
// works on the grid of patches.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "repre-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 6, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "repre",
    framework: {
      name: "moco-v3",
      crops: { globalSize: 32, globalScale: [0.2, 1], blur: [0, 0] },
      hidden: 1024,
      outFeatures: 128,
    },
    levels: 4,
    decoderForm: "sub-pixel",
    decoderWidth: 96,
    lambda: 1,
  },
  optimizer: { lr: 1e-3, weightDecay: 0.1, warmupEpochs: 10, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 100, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 5, k: [20] },
});
