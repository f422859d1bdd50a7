// RandSAC on ImageNet-1K with ViT-B/16, as far as the paper says how (Hua et al., 2023, section 5).
//
//     npx tessera pretrain recipes/randsac-imagenet.ts --set data.train=folder:/data/imagenet/train --set data.test=folder:/data/imagenet/val
//
// The paper's: ViT-B, pre-trained at 192 px and evaluated at 224 (positions are interpolated), squares 16 -> 4: on the 12 x 12 grid squares of 3 x 3
// patches in partitions of 6 x 6, learned skips, normalised pixels. Ours, because it does not say: a decoder of 8 layers, and MAE's
// optimiser, batch, crops and number of epochs. It was never run here.
import { defineRecipe } from "tessera";

export default defineRecipe({
  name: "randsac-imagenet",
  data: { train: "folder:imagenet/train", test: "folder:imagenet/val", evalSize: 224 },
  model: { size: "base", patchSize: 16 },
  method: {
    name: "randsac",
    crops: { globalSize: 192 },
    segments: { kind: "square", side: 3, partitions: [6] },
    decoderDepth: 8,
    decoderHeads: 12,
  },
  optimizer: { warmupEpochs: 40 },
  train: { epochs: 800, batchSize: 64, accumulate: 64, precision: "bfloat16" },
});
