// MST's ablation, small: which tokens are masked, and whether the image is restored.
//
//     CIFAR10=DIR npx tessera study recipes/studies/mst-masks.ts
//
// The paper compares no, random and attention-guided masks. Whether its arm without a mask restores the image is not said, so both are here;
// so is the attention-guided mask without the decoder. Every mask hides an eighth of the tokens on average, which is ours: guided, each of the
// lowest quarter with probability 1/2; random, each token with probability 1/8.
import { defineStudy } from "tessera";
import { data, dinoHead, evaluate, model, train, twoCrops } from "./cifar10.js";

export default defineStudy({
  title: "MST: which tokens are masked, and whether the image is restored",
  notes:
    "The paper: guided masks gain a little over none, random masks lose much. A small ViT, a few epochs of CIFAR-10: what can be compared is the direction.",
  base: {
    data,
    model,
    method: {
      name: "mst",
      num: 4,
      p: 0.5,
      decoderForm: "sub-pixel",
      decoderWidth: 64,
      dino: { crops: twoCrops, head: dinoHead, momentum: 0.99, freezeLastLayer: 0 },
    },
    optimizer: { lr: 1e-3, lrScaling: "none", weightDecay: 0.04, warmupEpochs: 0.25 },
    train: { ...train, epochs: 2 },
  },
  arms: {
    dino: { label: "no mask, no decoder (DINO)", set: { "method.mask": "none", "method.decoder": "off" } },
    none: { label: "no mask, decoder", set: { "method.mask": "none" } },
    random: { label: "random mask, decoder", set: { "method.mask": "random", "method.p": 0.125 } },
    attention: { label: "guided mask, decoder (MST)", set: { "method.mask": "attention" } },
    "attention-only": { label: "guided mask, no decoder", set: { "method.mask": "attention", "method.decoder": "off" } },
  },
  reference: "none",
  baselines: ["pixels", "random"],
  evaluate,
  paper: {
    table: "MST's ablation of masks as a survey quotes it (DeiT-S, ImageNet, linear probe)",
    values: { none: { linear: 73.1 }, random: { linear: 63.2 }, attention: { linear: 73.7 } },
  },
});
