// CAE's parts, small: the alignment of predicted with encoded representations, and the depth of the regressor.
//
//     CIFAR10=DIR npx tessera study recipes/studies/cae.ts
//
// The paper claims that alignment helps and that the attentive probe reads more off an encoder without a trained class token than the linear
// one does, so both are made. Here pixels are the target, each patch normalised, where the paper has a tokenizer's codes: nothing needs to be
// trained before.
import { defineStudy } from "tessera";
import { data, evaluate, model, train } from "./cifar10.js";

export default defineStudy({
  title: "CAE: alignment and the depth of the regressor",
  notes: "The paper: alignment helps. Targets are normalised pixels here, a tokenizer's codes there.",
  base: {
    data,
    model,
    method: { name: "cae", crops: { globalSize: 32 }, regressorDepth: 2, decoderDepth: 2, decoderHeads: 4 },
    optimizer: { lr: 1e-3, lrScaling: "none", warmupEpochs: 0.25 },
    train: { ...train, epochs: 2 },
  },
  arms: {
    cae: { label: "CAE (regressor 2, aligned)" },
    "no-alignment": { label: "no alignment", set: { "method.align": 0 } },
    "regressor-1": { label: "regressor of 1 block", set: { "method.regressorDepth": 1 } },
    "regressor-4": { label: "regressor of 4 blocks", set: { "method.regressorDepth": 4 } },
    mae: {
      label: "MAE",
      set: { method: { name: "mae", crops: { globalSize: 32 }, decoderWidth: 96, decoderDepth: 2, decoderHeads: 4 } },
    },
  },
  baselines: ["pixels", "random"],
  evaluate: { ...evaluate, attentive: {} },
});
