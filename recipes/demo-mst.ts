// The demo: MST with a small ViT on Fashion-MNIST, in minutes on two cores. `make demo` and `tessera demo` run it.
//
// Small images want a small, fast model: patches of 7 px give 16 tokens. Grey images have no colour to jitter, 28 px have no detail to blur away,
// and clothes are not mirrored, so the views differ by crop and brightness only, and there are no local crops. The head has batch norm: without
// it a model this small tends to collapse. The sub-pixel decoder works on the grid of patches, at a fraction of the deconvolutions' cost.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "demo-mst",
  data: { train: "fashion-mnist" },
  model: { patchSize: 7, width: 96, depth: 4, heads: 3 },
  method: {
    name: "mst",
    num: 4,
    p: 0.5,
    lambda2: 0.6,
    decoderForm: "sub-pixel",
    decoderWidth: 64,
    dino: {
      crops: {
        globalSize: 28,
        globalScale: [0.5, 1],
        locals: 0,
        interpolation: "bilinear",
        flip: 0,
        jitter: { brightness: 0.4, contrast: 0 },
        blur: [0, 0, 0],
        solarize: 0,
      },
      head: { outFeatures: 1024, hidden: 256, bottleneck: 64, batchNorm: true },
      momentum: 0.99,
      freezeLastLayer: 0,
    },
  },
  optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25, weightDecay: 0.04 },
  train: { epochs: 3, batchSize: 64, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 50 },
  knn: { readout: "class+mean", k: [20] },
});
