// A d-VAE tokenizer for CIFAR-10: 8x8 codes of 4 px, for CAE with patches of 4 px (cae-cifar10.ts).
//
//     CIFAR10=DIR npx tessera pretrain recipes/tokenizer-cifar10.ts --out runs/tokenizer-cifar10
//
// DIR is where cifar-10-binary.tar.gz was unpacked. DALL-E's: architecture, losses and schedules. Ours: its size, 1,024 codes, a batch of 64.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "tokenizer-cifar10",
  data: { train: `cifar10:${process.env.CIFAR10 ?? "."}` },
  method: {
    name: "tokenizer",
    crops: { globalSize: 32 },
    groups: 3,
    blocksPerGroup: 1,
    width: 48,
    decoderWidth: 48,
    decoderInit: 64,
    vocabulary: 1024,
    averaging: 0.99,
  },
  optimizer: { lr: 1e-3, finalLr: 1e-5 },
  train: { epochs: 5, batchSize: 64, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 50 },
});
