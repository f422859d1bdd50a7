// CAE on Fashion-MNIST with a small ViT, longer than the demo.
//
//     FASHION_MNIST=DIR npx tessera pretrain recipes/cae-fashion-mnist.ts --out runs/cae-fashion-mnist
//
// DIR has Fashion-MNIST's four .gz files; Debian's package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist, which is found
// without the variable.
//
// It predicts normalised pixels. With a tokenizer of its own (recipes/tokenizer-fashion-mnist.ts, one code for 4 x 4 px):
//     ... --set method.target.kind=tokens --set method.target.tokenizer=runs/tokenizer/export/tokenizer.safetensors
//
// The paper's: block-wise masks of half of the patches, regressor, alignment with weight 2, layer scale 0.1, no bias of keys, drop path 0.1,
// clip 3. Ours: what follows from 28 px: patches of 4 px, two blocks of regressor and decoder, crops from half of the area, 100 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "cae-fashion-mnist",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "cae",
    crops: { globalSize: 28, globalScale: [0.5, 1] },
    regressorDepth: 2,
    decoderDepth: 2,
    decoderHeads: 3,
  },
  optimizer: { lr: 1e-3, warmupEpochs: 5 },
  train: { epochs: 100, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
