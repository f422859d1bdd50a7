// RePre on ImageNet-1K over MoCo v3, ViT-S/16.
//
//     IMAGENET=DIR npx tessera pretrain recipes/repre-imagenet.ts --out runs/repre-imagenet
//     ... --set 'method.levels=[-1]'           the control that reconstructs from the last block only
//     ... --set method.lambda=0.5              another weight of the reconstruction
//
// DIR has train/CLASS/*.JPEG and val/CLASS/*.JPEG.
//
// The framework is moco-v3-imagenet.ts, whose header says what is the paper's. RePre's: the branch beside the framework, raw pixels, a
// convolutional decoder over several levels. Ours, because RePre's text does not settle it: blocks 3, 6, 9 and 12, the decoder's layers, L1,
// lambda 1, both views; its length and batch are the framework's. The branch adds 2.6 GFLOP forward to a view's 9.2 in the encoder.
import { defineRecipe } from "tessera";

const images = `folder:${process.env.IMAGENET ?? "imagenet"}`;

export default defineRecipe({
  name: "repre-imagenet",
  data: { train: images, test: images },
  model: { size: "small", heads: 12, patchSize: 16, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "repre",
    framework: {
      name: "moco-v3",
      crops: { globalSize: 224, globalScale: [0.08, 1], interpolation: "bilinear" },
      hidden: 4096,
      outFeatures: 256,
      temperature: 0.2,
      momentum: 0.99,
      freezePatchProjection: true,
    },
    levels: 4,
    fusion: "concat",
    decoderForm: "deconvolution",
    decoderWidth: 256,
    distance: "l1",
    reconstruct: "global",
    lambda: 1,
  },
  optimizer: { name: "adamw", lr: 1.5e-4, weightDecay: 0.1, warmupEpochs: 40, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 300, batchSize: 4096, precision: "bfloat16" },
  knn: { everyEpochs: 10, bank: 100_000 },
});
