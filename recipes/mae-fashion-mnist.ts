// MAE on Fashion-MNIST with a small ViT, longer than the demo.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/mae-fashion-mnist.ts --out runs/mae-fashion-mnist
//
// DIR has Fashion-MNIST's four .gz files; Debian's package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist, which is found
// without the variable.
//
// The paper's: three quarters of the patches hidden, normalised pixels, AdamW with betas (0.9, 0.95) and weight decay 0.05, no change of colour.
// Ours: what follows from 28 px: patches of 4 px, a small decoder, crops from half of the area, 100 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "mae-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "mae",
    crops: { globalSize: 28, globalScale: [0.5, 1] },
    decoderWidth: 96,
    decoderDepth: 2,
    decoderHeads: 3,
  },
  optimizer: { lr: 5e-4, warmupEpochs: 5 },
  train: { epochs: 100, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
