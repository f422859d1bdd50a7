// DINO on CIFAR-10 with a small ViT.
//
//     CIFAR10=DIR npx tessera pretrain recipes/dino-cifar10.ts --out runs/dino-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
// DINO's: multi-crop, the method's defaults, weight decay from 0.04 to 0.4, drop path 0.1. Ours: all that follows from 32 px: patches of 4 px, local
// crops of 16 px, no blur, which 32 px do not survive, a head of 4,096 prototypes with batch norm; 100 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "dino-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3, dropPath: 0.1, interpolation: "dino" },
  method: {
    name: "dino",
    crops: {
      globalSize: 32,
      globalScale: [0.3, 1],
      locals: 4,
      localSize: 16,
      localScale: [0.1, 0.3],
      blur: [0, 0, 0],
    },
    head: { outFeatures: 4096, hidden: 1024, bottleneck: 256, batchNorm: true },
  },
  optimizer: { lr: 5e-4, warmupEpochs: 10 },
  train: { epochs: 100, batchSize: 128, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 5, k: [20] },
});
