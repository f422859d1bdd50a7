// CAE on ImageNet-1K with ViT-B/16, as the reference code trains it (Chen et al., 2022), 300 epochs.
//
//     npx tessera pretrain recipes/cae-imagenet.ts --set data.train=folder:/data/imagenet/train --set data.test=folder:/data/imagenet/val \
//       --set method.target.tokenizer=dall-e.safetensors
//
// The tokenizer is DALL-E's, converted (docs/methods/tokenizer.md), or one of your own. For 800 epochs: --set train.epochs=800 --set
// optimizer.warmupEpochs=20; for 1600: 40. All of it is the reference's: 98 of 196 patches hidden in blocks, regressor and decoder of 4 blocks,
// 8192 codes, alignment weight 2, batch 2048 (here 32 accumulated batches of 64), learning rate 1.5e-3 whatever the batch. It was never run here.
import { defineRecipe } from "tessera";

export default defineRecipe({
  name: "cae-imagenet",
  data: { train: "folder:imagenet/train", test: "folder:imagenet/val" },
  model: { size: "base", patchSize: 16 },
  method: { name: "cae", target: { kind: "tokens", tokenizer: "dall-e.safetensors" } },
  optimizer: { warmupEpochs: 10 },
  train: { epochs: 300, batchSize: 64, accumulate: 32, precision: "bfloat16" },
});
