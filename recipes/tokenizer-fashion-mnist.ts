// A d-VAE tokenizer for Fashion-MNIST: 7x7 codes of 4 px, for CAE with patches of 4 px.
import { defineRecipe } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

export default defineRecipe({
  name: "tokenizer-fashion-mnist",
  data: { train: "fashion-mnist" },
  method: {
    name: "tokenizer",
    crops: { globalSize: 28, globalScale: [0.5, 1], interpolation: "bilinear" },
    groups: 3,
    blocksPerGroup: 1,
    width: 32,
    decoderWidth: 32,
    decoderInit: 64,
    vocabulary: 512,
    averaging: 0.99,
  },
  optimizer: { lr: 1e-3, finalLr: 1e-5 },
  train: { epochs: 1, batchSize: 64, precision: hasFastBfloat16() ? "bfloat16" : "float32", logEvery: 20 },
});
