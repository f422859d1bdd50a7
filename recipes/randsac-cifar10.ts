// RandSAC on CIFAR-10 with a small ViT: squares in partitions, 16 -> 4.
//
//     CIFAR10=DIR npx tessera pretrain recipes/randsac-cifar10.ts --out runs/randsac-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. A folder of the same images as files works too: --set data.train=folder:DIR2, and
// data.test likewise.
//
//     ... --set method.segments.kind=blob --set method.segments.count=11 --set 'method.segments.partitions=[5]'     blobs, 11 -> 5
//
// The paper's: 32 px in patches of 4 (an 8 x 8 grid), squares of 2 x 2 patches (16) in partitions of 4 x 4 (4), learned skips, normalised
// pixels; it trains 1600 epochs. Ours, because it does not say: the size of encoder and decoder, MAE's optimiser and crops; and 200 epochs.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "randsac-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  model: { patchSize: 4, width: 192, depth: 6, heads: 3 },
  method: {
    name: "randsac",
    crops: { globalSize: 32 },
    segments: { kind: "square", side: 2, partitions: [4] },
    decoderDepth: 4,
    decoderHeads: 3,
  },
  optimizer: { lr: 5e-4, warmupEpochs: 10 },
  train: { epochs: 200, batchSize: 256, precision: hasFastBfloat16() ? "bfloat16" : "float32" },
  knn: { everyEpochs: 10, k: [20] },
});
