// MoCo v3 on Fashion-MNIST with a small ViT, longer than the demo.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/moco-v3-fashion-mnist.ts --out runs/moco-v3-fashion-mnist
//
// DIR has Fashion-MNIST's four .gz files; Debian's package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist, which is found
// without the variable.
//
// The paper's: heads of 32 channels, fixed positions, the frozen patch projection, tau 0.2, momentum 0.99 to 1, weight decay 0.1 on everything.
// Ours: what follows from 28 px and grey: patches of 4 px, crops from a fifth of the area, brightness only, no blur and no solarisation, narrower
// projector and predictor, a learning rate for a batch of 256, 50 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "moco-v3-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 128, depth: 4, heads: 4, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "moco-v3",
    crops: { globalSize: 28, globalScale: [0.2, 1], jitter: { brightness: 0.4, contrast: 0 }, blur: [0, 0], solarize: 0 },
    hidden: 512,
    outFeatures: 128,
  },
  optimizer: { lr: 1e-3, weightDecay: 0.1, warmupEpochs: 5, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 50, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
