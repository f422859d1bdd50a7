// MST on CIFAR-10 with a small ViT: dino-cifar10.ts with masks and the decoder.
//
//     CIFAR10=DIR npx tessera pretrain recipes/mst-cifar10.ts --out runs/mst-cifar10
//     ... --set method.mask=none      (or random): the paper's ablation        --set method.decoder=off: its other half
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
// MST's: attention-guided masks on the student's global crops, and the restoration of the whole image by a convolutional decoder. Its num, p and
// lambda2 and the decoder's layers are ours, as docs/methods/mst.md says. The framework is that of dino-cifar10.ts.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "mst-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3, dropPath: 0.1, interpolation: "dino" },
  method: {
    name: "mst",
    decoderForm: "sub-pixel",
    decoderWidth: 96,
    dino: {
      crops: {
        globalSize: 32,
        globalScale: [0.3, 1],
        locals: 4,
        localSize: 16,
        localScale: [0.1, 0.3],
        blur: [0, 0, 0],
      },
      head: { outFeatures: 4096, hidden: 1024, bottleneck: 256, batchNorm: true },
    },
  },
  optimizer: { lr: 5e-4, warmupEpochs: 10 },
  train: { epochs: 100, batchSize: 128, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 5, k: [20] },
});
