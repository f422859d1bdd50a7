// What the benchmarks train: each method by its paper's recipe at 224 px, and on 32 px as recipes/*-cifar10.ts has it. A setup is a recipe, so
// that everything in it is checked and written down; no data is read.
import { resolveRecipe } from "../dist/train/index.js";
import { oneOf } from "./_flags.mjs";

/** Architectures by name; `px` is the side of the images. */
export const models = {
  "vit-ti16": { px: 224, model: { size: "tiny", patchSize: 16 } },
  "vit-s16": { px: 224, model: { size: "small", patchSize: 16 } },
  "vit-b16": { px: 224, model: { size: "base", patchSize: 16 } },
  "vit-l16": { px: 224, model: { size: "large", patchSize: 16 } },
  "vit-small32": { px: 32, model: { patchSize: 4, width: 192, depth: 12, heads: 3 } },
};

const dinoSmall = {
  crops: { globalSize: 32, globalScale: [0.3, 1], locals: 4, localSize: 16, localScale: [0.1, 0.3], blur: [0, 0, 0] },
  head: { outFeatures: 4096, hidden: 1024, bottleneck: 256, batchNorm: true },
};
const mocoSmall = { crops: { globalSize: 32, globalScale: [0.2, 1], blur: [0, 0] }, hidden: 1024, outFeatures: 128 };
const mocoModel = { positions: "sin-cos", init: "moco-v3" };

/** By method: its part of a recipe for images of 224 px and of 32 px, and what it asks of the model. */
const methods = {
  dino: { large: {}, small: dinoSmall, model: { dropPath: 0.1, interpolation: "dino" } },
  "moco-v3": { large: {}, small: mocoSmall, model: mocoModel },
  mst: {
    large: {},
    small: { decoderForm: "sub-pixel", decoderWidth: 96, dino: dinoSmall },
    model: { dropPath: 0.1, interpolation: "dino" },
  },
  repre: {
    large: { framework: { name: "moco-v3" } },
    small: { framework: { name: "moco-v3", ...mocoSmall }, decoderForm: "sub-pixel", decoderWidth: 96 },
    model: mocoModel,
  },
  cae: { large: {}, small: { crops: { globalSize: 32 }, decoderHeads: 3 }, model: {} },
  randsac: { large: {}, small: { crops: { globalSize: 32 }, decoderDepth: 4, decoderHeads: 3 }, model: {} },
  mae: {
    large: {},
    small: { crops: { globalSize: 32 }, decoderWidth: 96, decoderDepth: 4, decoderHeads: 3 },
    model: {},
  },
};

export const methodNames = Object.keys(methods);

/** The resolved recipe of a benchmark. @param dtype `fp32` or `bf16` @param train more of the recipe's `train` */
export function setupFor({ method, model, batch, dtype, train = {} }) {
  oneOf("method", method, methodNames);
  oneOf("model", model, Object.keys(models));
  oneOf("dtype", dtype, ["fp32", "bf16"]);
  const { px, model: size } = models[model];
  const { [px === 224 ? "large" : "small"]: options, model: wanted } = methods[method];
  // The name of a folder that is never opened: three channels, ImageNet's normalisation.
  const data = { train: "folder:none" };
  return resolveRecipe({
    data,
    model: { ...size, ...wanted },
    method: { name: method, ...options },
    train: { epochs: 100, batchSize: batch, precision: dtype === "bf16" ? "bfloat16" : "float32", ...train },
  });
}

/** A batch of random bytes with the shapes of a method's views. */
export function randomBatch(plan, batch) {
  const views = {};
  for (const { name, size, crops } of plan.views) {
    const shape = [crops.length, batch, plan.channels, ...size];
    const data = new Uint8Array(new SharedArrayBuffer(shape.reduce((product, each) => product * each)));
    let state = 1;
    for (let i = 0; i < data.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      data[i] = state >>> 24;
    }
    views[name] = { shape, data };
  }
  return { epoch: 0, batch: 0, waitMs: 0, views, index: Int32Array.from({ length: batch }, (_, i) => i), release: () => {} };
}

/** A place in the middle of a run: past what only the first epochs do. */
export const midRun = { step: 5000, totalSteps: 10_000, epoch: 50, epochs: 100, stepsPerEpoch: 100, report: false };
