// MoCo v3 on CIFAR-10 with a small ViT.
//
//     CIFAR10=DIR npx tessera pretrain recipes/moco-v3-cifar10.ts --out runs/moco-v3-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
// The paper's: the method with its defaults, weight decay 0.1 on everything. Ours: all that follows from 32 px and a short run. Patches of
// 4 px give 64 tokens; crops of scale (0.2, 1), since a smaller one has no object left; no blur, which 32 px do not survive; heads as wide as
// the model can feed; a batch of 256, at a learning rate that AdamW takes with it; 100 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "moco-v3-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 6, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "moco-v3",
    crops: { globalSize: 32, globalScale: [0.2, 1], blur: [0, 0] },
    hidden: 1024,
    outFeatures: 128,
  },
  optimizer: { lr: 1e-3, weightDecay: 0.1, warmupEpochs: 10, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 100, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 5, k: [20] },
});
