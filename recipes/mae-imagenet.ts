// MAE on ImageNet-1K with ViT-B/16, as the paper trains it (He et al., 2022, appendix A.1 and its code).
//
//     npx tessera pretrain recipes/mae-imagenet.ts --set data.train=folder:/data/imagenet/train --set data.test=folder:/data/imagenet/val
//
// All of it is the paper's: 75 % of the patches hidden, a decoder of 8 blocks of width 512, normalised pixels, 800 epochs of batch 4096
// (here 64 accumulated batches of 64), learning rate 1.5e-4 x batch / 256 with 40 epochs of warm-up. It was never run here.
import { defineRecipe } from "tessera";

export default defineRecipe({
  name: "mae-imagenet",
  data: { train: "folder:imagenet/train", test: "folder:imagenet/val" },
  model: { size: "base", patchSize: 16 },
  method: { name: "mae", crops: { globalSize: 224 } },
  optimizer: { warmupEpochs: 40 },
  train: { epochs: 800, batchSize: 64, accumulate: 64, precision: "bfloat16" },
});
