// MoCo v3's settings for ResNet-50 (300 epochs), on a ViT-S/16: what of the ViT recipe is due to the ViT.
//
//     IMAGENET=DIR npx tessera pretrain recipes/moco-v3-imagenet-lars.ts --out runs/moco-v3-imagenet-lars
//
// The paper's, for ResNets: LARS with 0.3 x batch / 256, weight decay 1e-6, 10 epochs of warm-up, tau 1, crops of scale (0.2, 1), and a patch
// projection, where there is one, that trains. That these meet a ViT is ours: the paper trains ViTs as in moco-v3-imagenet.ts.
import { defineRecipe } from "tessera";

const images = `folder:${process.env.IMAGENET ?? "imagenet"}`;

export default defineRecipe({
  name: "moco-v3-imagenet-lars",
  data: { train: images, test: images },
  model: { size: "small", heads: 12, patchSize: 16, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "moco-v3",
    crops: { globalSize: 224, globalScale: [0.2, 1], interpolation: "bilinear" },
    temperature: 1,
    momentum: 0.99,
    freezePatchProjection: false,
  },
  // The method's defaults are AdamW's; another optimiser says everything itself.
  optimizer: { name: "lars", lr: 0.3, weightDecay: 1e-6, warmupEpochs: 10, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 300, batchSize: 4096, precision: "bfloat16" },
  knn: { everyEpochs: 10, bank: 100_000 },
});
