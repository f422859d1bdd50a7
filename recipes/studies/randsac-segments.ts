// RandSAC's tables 2, 3, 4 and 6, small: raster or random order, single patches, squares or blobs, one level or two, and learned skips.
//
//     CIFAR10=DIR npx tessera study recipes/studies/randsac-segments.ts
//
// The paper's grid and patches (8 x 8 patches of 4 px), its segments and their numbers. As in its tables the decoder has no skips, but in the
// last two arms. Ours: the small encoder, a decoder of 2 layers, and a few epochs where the paper does not say how many it trains here.
import { defineStudy } from "tessera";
import { data, evaluate, model, train } from "./cifar10.js";

const square = (side: number, partitions: number[] = []) => ({ kind: "square", side, partitions });
const blob = (count: number, partitions: number[] = []) => ({ kind: "blob", count, partitions });

export default defineStudy({
  title: "RandSAC: order, shape and hierarchy of segments",
  notes:
    "The paper: random order beats raster, squares and blobs beat single patches, two levels beat one. Its figures are linear probes and fine-tuning on CIFAR-10 after a far longer training.",
  base: {
    data,
    model,
    method: { name: "randsac", crops: { globalSize: 32 }, decoderDepth: 2, decoderHeads: 4, skips: "off" },
    optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25 },
    train: { ...train, epochs: 2 },
  },
  arms: {
    "patch-raster": { label: "patches, raster", set: { "method.segments": square(1), "method.order": "raster" } },
    "patch-random": { label: "patches, random", set: { "method.segments": square(1) } },
    square: { label: "16 squares", set: { "method.segments": square(2) } },
    blob: { label: "7 blobs", set: { "method.segments": blob(7) } },
    "square-levels": { label: "16 squares in 4", set: { "method.segments": square(2, [4]) } },
    "blob-levels": { label: "7 blobs in 3", set: { "method.segments": blob(7, [3]) } },
    "square-levels-skips": {
      label: "16 squares in 4, skips",
      set: { "method.segments": square(2, [4]), "method.skips": "learned" },
    },
  },
  reference: "patch-random",
  baselines: ["pixels", "random"],
  evaluate,
  paper: {
    table: "RandSAC's tables 2, 4 and 6 (CIFAR-10; LIN linear probe, FT fine-tuning)",
    values: {
      "patch-raster": { LIN: 55.53, FT: 78.67 },
      "patch-random": { LIN: 75.53, FT: 87.52 },
      square: { LIN: 81.38, FT: 91.38 },
      blob: { LIN: 82.52, FT: 91.14 },
      "square-levels": { LIN: 82.46, FT: 91.66 },
      "blob-levels": { LIN: 82.71, FT: 91.2 },
    },
  },
});
