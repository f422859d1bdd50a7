// RePre against the frameworks it stands on, small: DINO and MoCo v3 by themselves, with the branch over several levels, and with the branch over
// the last level only.
//
//     CIFAR10=DIR npx tessera study recipes/studies/repre.ts
//
// The paper claims that the branch improves its framework, and calls the several levels crucial. Differences are taken to DINO; read MoCo v3's
// three arms against each other.
import { defineStudy } from "tessera";
import { data, dinoHead, evaluate, model, train, twoCrops } from "./cifar10.js";

const dino = { name: "dino", crops: twoCrops, head: dinoHead, momentum: 0.99, freezeLastLayer: 0 } as const;
const { locals: _, blur: __, ...mocoCrops } = twoCrops;
const moco = { name: "moco-v3", crops: { ...mocoCrops, blur: [0, 0] }, hidden: 512, outFeatures: 128 } as const;
const branch = { decoderForm: "sub-pixel", decoderWidth: 64 } as const;
const mocoModel = { positions: "sin-cos", init: "moco-v3" } as const;

export default defineStudy({
  title: "RePre: a reconstruction branch beside DINO and MoCo v3",
  notes: "The paper: the branch improves both frameworks, several levels more than the last alone.",
  base: {
    data,
    model,
    optimizer: { lr: 1e-3, lrScaling: "none", weightDecay: 0.04, warmupEpochs: 0.25 },
    train: { ...train, epochs: 2 },
  },
  arms: {
    dino: { label: "DINO", set: { method: dino } },
    "repre-dino": { label: "RePre (DINO), 4 levels", set: { method: { name: "repre", framework: dino, levels: 4, ...branch } } },
    "repre-dino-last": {
      label: "RePre (DINO), last level",
      set: { method: { name: "repre", framework: dino, levels: 1, ...branch } },
    },
    moco: { label: "MoCo v3", set: { method: moco, model: mocoModel } },
    "repre-moco": {
      label: "RePre (MoCo v3), 4 levels",
      set: { method: { name: "repre", framework: moco, levels: 4, ...branch }, model: mocoModel },
    },
    "repre-moco-last": {
      label: "RePre (MoCo v3), last level",
      set: { method: { name: "repre", framework: moco, levels: 1, ...branch }, model: mocoModel },
    },
  },
  baselines: ["pixels", "random"],
  evaluate,
});
