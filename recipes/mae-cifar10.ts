// MAE on CIFAR-10 with a small ViT.
//
//     CIFAR10=DIR npx tessera pretrain recipes/mae-cifar10.ts --out runs/mae-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
// The paper's: three quarters of the patches hidden, normalised pixels, AdamW with betas (0.9, 0.95) and weight decay 0.05, crops from a fifth of
// the area. Ours: patches of 4 px (64 tokens), a decoder in proportion, a batch of 256, 200 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "mae-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "mae",
    crops: { globalSize: 32 },
    decoderWidth: 96,
    decoderDepth: 4,
    decoderHeads: 3,
  },
  optimizer: { lr: 5e-4, warmupEpochs: 10 },
  train: { epochs: 200, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
