// DINO on ImageNet-1K with ViT-S/16: the settings of the released weights (Caron et al., 2021).
//
//     npx tessera pretrain recipes/dino-imagenet.ts --set data.train=folder:/data/imagenet/train --set data.test=folder:/data/imagenet/val
//
// Published: 10 local crops, crops of scale (0.25, 1) and (0.05, 0.25), teacher temperature 0.07 after 30 epochs from 0.04, prototypes of any
// length, 800 epochs, learning rate to 1e-5; batch 1024, here 16 accumulated batches of 64. Its k-NN is 74.5 %, its linear probe 77.0 %.
// For the code's defaults (100 epochs, 8 local crops): leave out crops, teacherTemperature, normLastLayer and finalLr. It was never run here.
import { defineRecipe } from "tessera";

export default defineRecipe({
  name: "dino-imagenet",
  data: { train: "folder:imagenet/train", test: "folder:imagenet/val" },
  model: { size: "small", patchSize: 16, dropPath: 0.1, interpolation: "dino" },
  method: {
    name: "dino",
    crops: { globalScale: [0.25, 1], locals: 10, localScale: [0.05, 0.25] },
    head: { normLastLayer: false },
    teacherTemperature: { from: 0.04, to: 0.07, epochs: 30 },
  },
  optimizer: { lr: 5e-4, warmupEpochs: 10, finalLr: 1e-5 },
  train: { epochs: 800, batchSize: 64, accumulate: 16, precision: "bfloat16" },
});
