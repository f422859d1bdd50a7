// A d-VAE tokenizer of DALL-E's size (Ramesh et al., 2021, appendix A): 8,192 codes of 8 px.
//
//     npx tessera pretrain recipes/tokenizer-imagenet.ts --set data.train=folder:/data/imagenet/train
//
// DALL-E's: architecture, logit-Laplace loss, temperature and KL weight with the latter's steps, AdamW with betas (0.9, 0.999), learning rate 1e-4 to
// 1.25e-6, weight decay 1e-4, batch 512 (here 32 accumulated batches of 16), averaging 0.999. Ours: ImageNet in place of its images, at 112 px,
// which is what CAE's tokenizer looks at, and 20 epochs, over which the temperature falls (DALL-E: over 150,000 of 3 million steps). It was never run
// here.
import { defineRecipe } from "tessera";

export default defineRecipe({
  name: "tokenizer-imagenet",
  data: { train: "folder:imagenet/train" },
  method: {
    name: "tokenizer",
    crops: { globalSize: 112 },
    temperature: { steps: 50_000 },
    klWeight: { steps: 5_000 },
  },
  optimizer: { lr: 1e-4, lrScaling: "none", finalLr: 1.25e-6, weightDecay: 1e-4 },
  train: { epochs: 20, batchSize: 16, accumulate: 32, precision: "bfloat16" },
});
