// The demo of MAE: a small ViT on Fashion-MNIST. `METHOD=mae make demo` and `tessera demo --method mae` run it.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "demo-mae",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 96, depth: 4, heads: 3 },
  method: {
    name: "mae",
    crops: { globalSize: 28, globalScale: [0.5, 1], interpolation: "bilinear" },
    decoderWidth: 64,
    decoderDepth: 2,
    decoderHeads: 2,
  },
  optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25 },
  train: { epochs: 3, batchSize: 128, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 25 },
  knn: { k: [20] },
});
