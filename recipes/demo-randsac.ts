// The demo of RandSAC: a small ViT on Fashion-MNIST. `METHOD=randsac make demo` and `tessera demo --method randsac` run it.
//
// Images of 28 px are cropped to 32, which gives the paper's grid for CIFAR-10: 8 x 8 patches of 4 px, in 16 squares of 2 x 2 patches, these in
// 4 partitions.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "demo-randsac",
  data: { train: "fashion-mnist" },
  model: { patchSize: 4, width: 96, depth: 4, heads: 3 },
  method: {
    name: "randsac",
    crops: { globalSize: 32, globalScale: [0.5, 1], interpolation: "bilinear" },
    segments: { kind: "square", side: 2, partitions: [4] },
    decoderDepth: 2,
    decoderHeads: 3,
  },
  optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25 },
  train: { epochs: 2, batchSize: 128, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 25 },
  knn: { k: [20] },
});
