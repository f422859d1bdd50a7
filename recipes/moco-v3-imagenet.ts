// MoCo v3 on ImageNet-1K, the paper's ViT-S/16: the setting in full, and what recipes for other folders of photographs start from.
//
//     IMAGENET=DIR npx tessera pretrain recipes/moco-v3-imagenet.ts --out runs/moco-v3-imagenet
//     ... --set model.size=base                                       ViT-B/16
//     ... --set method.momentumSchedule=constant                      without the cosine
//
// DIR has train/CLASS/*.JPEG and val/CLASS/*.JPEG.
//
// The paper's and its code's: ViT-S with 12 heads (others' ViT-S has 6), fixed positions, the frozen random patch projection, heads, tau 0.2,
// momentum 0.99 to 1, crops of scale (0.08, 1), bilinear; AdamW, 1.5e-4 x batch / 256, weight decay 0.1 on everything, no clipping,
// 40 epochs of warm-up, 300 epochs, batch 4096. The images of one batch are each other's negatives, so `accumulate` does not stand in for a
// larger batch. Ours: bfloat16 in place of float16.
import { defineRecipe } from "tessera";

const images = `folder:${process.env.IMAGENET ?? "imagenet"}`;

export default defineRecipe({
  name: "moco-v3-imagenet",
  data: { train: images, test: images },
  model: { size: "small", heads: 12, patchSize: 16, positions: "sin-cos", init: "moco-v3" },
  method: {
    name: "moco-v3",
    crops: { globalSize: 224, globalScale: [0.08, 1], interpolation: "bilinear" },
    hidden: 4096,
    outFeatures: 256,
    temperature: 0.2,
    momentum: 0.99,
    freezePatchProjection: true,
  },
  optimizer: { name: "adamw", lr: 1.5e-4, weightDecay: 0.1, warmupEpochs: 40, finalLr: 0, clip: { kind: "none" } },
  train: { epochs: 300, batchSize: 4096, precision: "bfloat16" },
  knn: { everyEpochs: 10, bank: 100_000 },
});
