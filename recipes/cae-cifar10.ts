// CAE on CIFAR-10 with a small ViT.
//
//     CIFAR10=DIR npx tessera pretrain recipes/cae-cifar10.ts --out runs/cae-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
// It predicts the codes of a tokenizer that recipes/tokenizer-cifar10.ts trains first (stride 4: one code for each patch of 4 x 4 px):
//     CIFAR10=DIR npx tessera pretrain recipes/tokenizer-cifar10.ts --out runs/tokenizer-cifar10
//
// The paper's: codes as targets, block-wise masks of half of the patches, regressor and decoder of 4 blocks, alignment with weight 2, layer
// scale 0.1, no bias of keys, drop path 0.1, clip 3. Ours: the sizes, a batch of 256 with learning rate 1e-3, 200 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "cae-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "cae",
    crops: { globalSize: 32 },
    target: { kind: "tokens", tokenizer: "runs/tokenizer-cifar10/export/tokenizer.safetensors" },
    decoderHeads: 3,
  },
  optimizer: { lr: 1e-3, warmupEpochs: 10 },
  train: { epochs: 200, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
