// The demo of CAE: a small ViT on Fashion-MNIST. `METHOD=cae make demo` and `tessera demo --method cae` run it.
//
// The decoder predicts pixels, so that no tokenizer has to be trained first.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "demo-cae",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 96, depth: 4, heads: 3, dropPath: 0 },
  method: {
    name: "cae",
    crops: { globalSize: 28, globalScale: [0.5, 1], interpolation: "bilinear" },
    regressorDepth: 2,
    decoderDepth: 1,
    decoderHeads: 3,
    decoderDropPath: 0,
  },
  optimizer: { lr: 1e-3, warmupEpochs: 0.25 },
  train: { epochs: 2, batchSize: 128, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 25 },
  knn: { k: [20] },
});
