// What the studies share: CIFAR-10 from the folder that the environment variable CIFAR10 names, a small ViT, and one evaluation for all arms.
// The folder is where cifar-10-binary.tar.gz was unpacked, or has the images as files: train/CLASS/*, test/CLASS/*.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { MethodOptions, RecipeInput, StudyInput } from "tessera";
import { hasFastBfloat16 } from "tessera/torch";

const folder = process.env.CIFAR10 || "data/cifar10";
const files = { train: `folder:${folder}`, trainSplit: "train", test: `folder:${folder}`, testSplit: "test" } as const;

/** 50,000 training and 10,000 test images of 32 px, in 10 classes. */
export const data: RecipeInput["data"] = {
  ...(existsSync(join(folder, "train")) ? files : { train: `cifar10:${folder}` }),
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.247, 0.2435, 0.2616],
};

/** What all runs share; decoded files fit in the cache. */
export const train = {
  batchSize: 128,
  precision: hasFastBfloat16() ? "bfloat16" : "float32",
  logEvery: 50,
  cacheMegabytes: 200,
} satisfies RecipeInput["train"];

/** 0.45 M parameters over 8 x 8 patches of 4 px, as RandSAC's experiments on CIFAR-10 have them: an hour of two cores for a study. */
export const model = { patchSize: 4, width: 96, depth: 4, heads: 4 } as const;

/** DINO's two global crops without local ones; images as small as these have no detail to blur. */
export const twoCrops = {
  globalSize: 32,
  globalScale: [0.25, 1],
  locals: 0,
  interpolation: "bilinear",
  blur: [0, 0, 0],
  solarize: 0,
} satisfies MethodOptions["dino"]["crops"];

/** DINO's projection head, small; without batch norm a model of this size tends to collapse. */
export const dinoHead = { outFeatures: 1024, hidden: 512, bottleneck: 128, batchNorm: true } as const;

/** k-NN and probes learn from a part of the training images and are tested on all test images. */
export const evaluate: StudyInput["evaluate"] = { trainImages: 20_000, knn: { k: [20] }, linear: {} };
