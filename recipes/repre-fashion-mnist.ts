// RePre on Fashion-MNIST over MoCo v3, with a small ViT: moco-v3-fashion-mnist.ts and the branch beside it.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/repre-fashion-mnist.ts --out runs/repre-fashion-mnist
//     ... --set 'method.levels=[-1]'           the control that reconstructs from the last block only
//
// DIR and the framework's settings are explained in moco-v3-fashion-mnist.ts. RePre's: raw pixels, a convolutional decoder over several levels.
// Ours: all four blocks, L1, lambda 1, both views, and the decoder's layers, here in the sub-pixel form, which
// works on the grid of patches.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "repre-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 128, depth: 4, heads: 4, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "repre",
    framework: {
      name: "moco-v3",
      crops: { globalSize: 28, globalScale: [0.2, 1], jitter: { brightness: 0.4, contrast: 0 }, blur: [0, 0], solarize: 0 },
      hidden: 512,
      outFeatures: 128,
    },
    levels: 4,
    decoderForm: "sub-pixel",
    decoderWidth: 64,
    lambda: 1,
  },
  optimizer: { lr: 1e-3, weightDecay: 0.1, warmupEpochs: 5, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 50, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
