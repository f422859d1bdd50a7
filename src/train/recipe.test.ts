// The recipe's schema: defaults, problems told all at once, what a resume may change.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { defineMethod, methodNamed, methods, mocoV3Options, registerMethod } from "../methods/index.js";
import { createBackbone } from "../models/index.js";
import { ConfigError, differingKeys, peakLearningRate, type Recipe, resolveRecipe } from "./recipe.js";

const least = { data: { train: "fashion-mnist" }, method: { name: "mst" } };
/** A method that needs no class token. */
const plain = { ...least, method: { name: "dino" } };

function issuesOf(input: unknown): string[] {
  try {
    resolveRecipe(input);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).issues.map(({ message }) => message);
  }
  throw new Error("the recipe was accepted");
}

describe("defaults", () => {
  it("fills in every section", () => {
    const recipe = resolveRecipe({
      data: { train: "cifar10:/data" },
      method: { name: "dino", crops: { globalSize: 32, localSize: 16 } },
    });
    expect(recipe).toMatchObject({
      data: {
        train: "cifar10:/data",
        test: "cifar10:/data",
        testSplit: "test",
        channels: 3,
        mean: [0.4914, 0.4822, 0.4465],
        std: [0.247, 0.2435, 0.2616],
        evalSize: 32,
      },
      model: {
        name: "vit",
        width: 384,
        depth: 12,
        heads: 6,
        imageSize: 32,
        patchSize: 16,
        mlpRatio: 4,
        positions: "learned",
        interpolation: "exact",
        classToken: true,
        qkvBias: true,
        keyBias: true,
        dropPath: 0,
        init: "dino",
      },
      method: { name: "dino", studentTemperature: 0.1, crops: { globalSize: 32, locals: 8, grayscale: 0.2 } },
      optimizer: {
        name: "adamw",
        lr: 5e-4,
        lrScaling: "batch/256",
        warmupEpochs: 10,
        finalLr: 1e-6,
        lrSchedule: "cosine",
        weightDecay: { from: 0.04, to: 0.4 },
        betas: [0.9, 0.999],
        eps: 1e-8,
        clip: { kind: "per-tensor", maxNorm: 3 },
      },
      train: { epochs: 100, batchSize: 256, accumulate: 1, seed: 0, precision: "float32", prefetch: 2, logEvery: 10 },
      checkpoint: { everyMinutes: 10, keep: 2 },
      knn: { everyEpochs: 0, k: [20], readout: "class", temperature: 0.07 },
      pictures: { everyEpochs: 0, count: 8 },
    });
    expect(Object.keys(recipe)).not.toContain("name");
    expect(recipe.model).not.toHaveProperty("size");
    expect(recipe.optimizer).not.toHaveProperty("momentum");
  });

  it("knows grey images: one channel, and no operation that needs colour", () => {
    const { data, method } = resolveRecipe(least);
    expect(data).toMatchObject({ channels: 1, mean: [0.286], std: [0.353], testSplit: "test" });
    expect(method).toMatchObject({ dino: { crops: { grayscale: 0, jitter: { brightness: 0.4, saturation: 0, hue: 0 } } } });
    expect(resolveRecipe({ ...least, data: { train: "fashion-mnist", channels: 3 } }).data.mean).toEqual([0.286, 0.286, 0.286]);
    expect(resolveRecipe({ ...least, data: { train: "cifar10", channels: 1 } }).data.mean).toEqual([0.4734]);
  });

  it("takes ImageNet's normalisation and no test set for a folder", () => {
    const { data } = resolveRecipe({ ...least, data: { train: "folder:/images" } });
    expect(data.mean).toEqual([0.485, 0.456, 0.406]);
    expect(data.test).toBeUndefined();
    expect(data.trainSplit).toBeUndefined();
    const two = resolveRecipe({ ...least, data: { train: "folder:/a?split=train", test: "folder:/a?split=test" } }).data;
    expect([two.trainSplit, two.testSplit]).toEqual(["train", "test"]);
    expect(resolveRecipe({ ...least, data: { train: "folder:/a", test: "folder:/b" } }).data.testSplit).toBeUndefined();
  });

  it("takes the size of a model, and what is given beside it", () => {
    const model = (given: object) => resolveRecipe({ ...least, model: given }).model;
    expect(model({ size: "tiny" })).toMatchObject({ width: 192, depth: 12, heads: 3 });
    expect(model({ size: "large", depth: 6 })).toMatchObject({ width: 1024, depth: 6, heads: 16 });
    expect(model({ width: 96, depth: 4 })).toMatchObject({ width: 96, depth: 4, heads: 2 });
    expect(model({ imageSize: [32, 64] }).imageSize).toEqual([32, 64]);
  });

  it("makes a model section that the model understands", () => {
    const { model, data } = resolveRecipe({ ...least, model: { width: 32, depth: 1, positions: "sin-cos" } });
    const vit = createBackbone({ ...model, channels: data.channels });
    expect([model.name, vit.width, vit.channels]).toEqual(["vit", 32, 1]);
  });

  it("fits the optimiser's options to its name and the warm-up to the run", () => {
    const optimizer = (given: object, epochs = 100) => resolveRecipe({ ...least, optimizer: given, train: { epochs } }).optimizer;
    expect(optimizer({ name: "sgd" })).toMatchObject({ lr: 0.03, weightDecay: 1e-4, momentum: 0.9, nesterov: false });
    expect(optimizer({ name: "lars" })).toMatchObject({ lr: 0.3, weightDecay: 1e-6, momentum: 0.9, trustCoefficient: 0.001 });
    expect(optimizer({ name: "lars" })).not.toHaveProperty("betas");
    expect(optimizer({}, 5).warmupEpochs).toBe(0.5);
    expect(optimizer({}, 300).warmupEpochs).toBe(10);
  });

  it("scales the learning rate by the images of a step", () => {
    const train = { batchSize: 64, accumulate: 2 };
    expect(peakLearningRate(resolveRecipe({ ...least, train, optimizer: { lr: 1e-3 } }))).toBe(5e-4);
    expect(peakLearningRate(resolveRecipe({ ...least, train, optimizer: { lr: 1e-3, lrScaling: "none" } }))).toBe(1e-3);
  });

  it("leaves a resolved recipe as it is, also after JSON", () => {
    const inputs = [
      least,
      {
        ...least,
        name: "a",
        data: { train: "fashion-mnist", subset: 100 },
        optimizer: { name: "sgd" },
        model: { size: "tiny", sinCos: {} },
      },
      {
        data: { train: "folder:/x" },
        method: { name: "dino" },
        optimizer: { name: "lars", weightDecay: 0 },
        knn: { k: [10, 20] },
      },
    ];
    for (const input of inputs) {
      const recipe = resolveRecipe(input);
      expect(resolveRecipe(recipe)).toEqual(recipe);
      expect(JSON.parse(JSON.stringify(recipe))).toEqual(recipe);
    }
  });

  it("takes undefined for not given", () => {
    expect(resolveRecipe({ ...least, name: undefined, train: { epochs: undefined } })).toEqual(resolveRecipe(least));
  });

  it("does not change what it is given", () => {
    const input = structuredClone(least);
    resolveRecipe(input);
    expect(input).toEqual(least);
  });
});

describe("what a method says of the other sections", () => {
  beforeAll(() =>
    registerMethod(
      defineMethod({
        name: "particular",
        options: z.strictObject({
          side: z.int().default(2),
          crops: z.strictObject({ globalSize: z.int().default(32) }).prefault({}),
        }),
        defaults: ({ side }) => ({
          model: { vit: { positions: "sin-cos", classToken: false, patchSize: side, sinCos: { temperature: 100 } } },
          optimizer: { lr: 1.5e-3, betas: [0.9, 0.95], weightDecay: 0.05, clip: { kind: "global" } },
          train: { batchSize: 128 },
          knn: { k: [10] },
        }),
        check: ({ side }, { grid, width, depth, classToken }) =>
          grid[0] % side === 0 ? [] : [{ path: "side", message: `is ${side} on ${[grid, width, depth, classToken]}` }],
        create: () => methodNamed("dino").create({}, undefined as never),
      }),
    ),
  );
  afterAll(() => {
    delete methods.particular;
  });
  const recipe = (sections: object = {}, options: object = {}) => ({
    data: { train: "fashion-mnist" },
    method: { name: "particular", ...options },
    ...sections,
  });

  it("gives its defaults to the keys that the recipe leaves out", () => {
    expect(resolveRecipe(recipe())).toMatchObject({
      model: { positions: "sin-cos", classToken: false, patchSize: 2, imageSize: 32 },
      optimizer: { name: "adamw", lr: 1.5e-3, betas: [0.9, 0.95], weightDecay: 0.05, clip: { kind: "global", maxNorm: 3 } },
      train: { batchSize: 128, epochs: 100 },
      knn: { k: [10], readout: "mean" },
    });
    const given = resolveRecipe(
      recipe({
        model: { positions: undefined, patchSize: 4, sinCos: { order: "column-row" } },
        optimizer: { weightDecay: { from: 0, to: 1 }, clip: { maxNorm: 1 } },
        knn: { k: [5] },
      }),
    );
    expect(given).toMatchObject({
      model: { positions: "sin-cos", patchSize: 4, sinCos: { order: "column-row", temperature: 100 } },
      optimizer: { lr: 1.5e-3, weightDecay: { from: 0, to: 1 }, clip: { kind: "global", maxNorm: 1 } },
      knn: { k: [5] },
    });
    expect(resolveRecipe(given)).toEqual(given);
  });

  it("keeps its optimiser's values to itself when the recipe names another", () => {
    const { optimizer } = resolveRecipe(recipe({ optimizer: { name: "sgd" } }));
    expect(optimizer).toMatchObject({ name: "sgd", lr: 0.03, weightDecay: 1e-4, clip: { kind: "per-tensor" } });
    expect(resolveRecipe(recipe({ optimizer: { name: "adamw" } })).optimizer.lr).toBe(1.5e-3);
  });

  it("refuses what does not fit, beside all other problems", () => {
    expect(issuesOf(recipe({ model: { patchSize: 8 }, optimizer: { lr: 0 } }, { side: 3 }))).toEqual([
      "optimizer.lr is 0; expected more than 0",
      "method.side is 3 on 4,4,384,12,false",
    ]);
    expect(issuesOf(recipe({ model: 3 }))).toEqual(["model is 3; expected an object"]);
    expect(issuesOf(recipe({ train: { cacheFolder: "cache" } }))).toEqual([
      "train.cacheMegabytes is missing; expected the most that train.cacheFolder may hold, in megabytes",
    ]);
  });
});

describe("a Swin", () => {
  const swin = (given: object = {}, sections: object = {}) => ({ ...least, model: { name: "swin", ...given }, ...sections });
  const crops = { method: { name: "dino", crops: { globalSize: 32, localSize: 16 } } };

  it("takes its size, what is given beside it, and the method's crops", () => {
    expect(resolveRecipe(swin()).model).toEqual({
      name: "swin",
      embedDim: 96,
      depths: [2, 2, 6, 2],
      heads: [3, 6, 12, 24],
      windowSize: 7,
      imageSize: 224,
      patchSize: 4,
      mlpRatio: 4,
      qkvBias: true,
      dropPath: 0,
    });
    expect(resolveRecipe(swin({ size: "base" })).model).toMatchObject({ embedDim: 128, heads: [4, 8, 16, 32] });
    const small = resolveRecipe(swin({ embedDim: 64, depths: [2, 2], windowSize: 4 }, crops));
    expect(small.model).toMatchObject({ heads: [2, 4], imageSize: 32 });
    expect(small.knn.readout).toBe("mean");
    expect(resolveRecipe(small)).toEqual(small);
    const made = createBackbone({ ...small.model, channels: 1 });
    expect([made.width, made.stride, made.depth]).toEqual([128, 8, 2]);
  });

  it("tells what does not fit", () => {
    expect(issuesOf(swin({ widht: 3, embedDim: 0 }))).toEqual([
      "model.embedDim is 0; expected more than 0",
      expect.stringMatching(/^model.widht is unknown; /),
    ]);
    expect(issuesOf(swin({ depths: [1, 1], heads: [1] }, crops))).toEqual([
      "model.heads is [1]; expected one number for each of the 2 stages of model.depths",
    ]);
    expect(issuesOf(swin({ embedDim: 10, depths: [1, 1], heads: [1, 3] }, crops))).toEqual([
      "model.heads.1 is 3; expected a divisor of the stage's width, 20",
    ]);
    expect(resolveRecipe(swin({ depths: [1, 1, 1] }, crops)).model.name).toBe("swin");
    expect(issuesOf(swin({}, crops))).toEqual([
      "method.crops.localSize is 16; expected a multiple of model.patchSize, doubled from stage to stage, 32",
    ]);
    expect(issuesOf(swin({}, { knn: { readout: "class" } }))).toEqual([
      'knn.readout is "class"; expected "mean", because a Swin has no class token',
    ]);
    expect(issuesOf({ ...least, model: { name: "swim" } })).toEqual([
      'model.name is "swim"; expected one of "vit", "swin"; did you mean "swin"?',
    ]);
    for (const name of ["mae", "cae", "randsac"]) {
      expect(issuesOf(swin({}, { method: { name } })).join()).toContain(
        `model.name is "swin"; expected "vit", because that is what the method "${name}" works over`,
      );
    }
  });
});

describe("a method on a framework", () => {
  const recipe = (framework: object, sections: object = {}) => ({
    data: { train: "fashion-mnist" },
    method: { name: "repre", framework },
    ...sections,
  });

  it("takes the framework's crops, and its paper's defaults", () => {
    const over = resolveRecipe(recipe({ name: "moco-v3", crops: { globalSize: 32 } }));
    expect(over).toMatchObject({
      model: { positions: "sin-cos", init: "moco-v3", imageSize: 32 },
      method: { framework: { name: "moco-v3", temperature: 0.2, crops: { grayscale: 0, jitter: { brightness: 0.4, hue: 0 } } } },
      optimizer: { lr: 1.5e-4, weightDecay: 0.1, clip: { kind: "none" } },
    });
    expect(resolveRecipe(over)).toEqual(over);
    expect(resolveRecipe({ ...recipe({}), method: { name: "repre" } })).toMatchObject({
      model: { positions: "learned", init: "dino" },
      method: { framework: { name: "dino", studentTemperature: 0.1 } },
      optimizer: { lr: 5e-4 },
    });
  });

  it("names problems by the framework that is meant", () => {
    const known = Object.keys(mocoV3Options.unwrap().shape).join(", ");
    expect(issuesOf(recipe({ name: "moco-v3", temprature: 1 }))).toEqual([
      `method.framework.temprature is unknown; did you mean method.framework.temperature? known: name, ${known}`,
    ]);
    expect(issuesOf(recipe({ name: "moco-v3", temperature: 0 }))).toEqual([
      "method.framework.temperature is 0; expected more than 0",
    ]);
    expect(issuesOf(recipe({ name: "moco" }))).toEqual([
      'method.framework.name is "moco"; expected one of "dino", "moco-v3"; did you mean "moco-v3"?',
    ]);
    expect(issuesOf(recipe({ name: "moco-v3" }, { train: { batchSize: 1 } }))).toHaveLength(2);
  });
});

describe("problems", () => {
  it("are told all at once, with path, value and what is expected", () => {
    const issues = issuesOf({
      data: { train: "fashion-mnist", subset: -5, channels: 2 },
      model: { size: "smal", depth: 2.5, patchSize: "16" },
      method: { name: "mst", num: 0.5, mask: "attn", dino: { head: { outFeature: 10 } } },
      optimizer: { lr: 0, leaning_rate: 1, betas: [0.9], clip: { kind: "globall" }, weightDecay: { from: 0.1 } },
      train: { epochs: Number.NaN, precision: "bf16" },
      knn: { k: [] },
      optimiser: {},
    });
    expect(issues).toEqual([
      "optimiser is unknown; did you mean optimizer? known: name, data, model, method, optimizer, train, checkpoint, knn, pictures",
      "data.subset is -5; expected more than 0",
      "data.channels is 2; expected one of 1, 3",
      'model.size is "smal"; expected one of "tiny", "small", "base", "large"; did you mean "small"?',
      "model.depth is 2.5; expected a whole number",
      'model.patchSize is "16"; expected a number',
      "method.dino.head.outFeature is unknown; did you mean method.dino.head.outFeatures? known: outFeatures, hidden, bottleneck, layers, batchNorm, normLastLayer",
      'method.mask is "attn"; expected one of "attention", "random", "none"',
      "method.num is 0.5; expected at least 1",
      "optimizer.lr is 0; expected more than 0",
      "optimizer.weightDecay.to is missing; expected a number",
      "optimizer.betas is [0.9]; expected at least 2 values",
      'optimizer.clip.kind is "globall"; expected one of "none", "global", "per-tensor"; did you mean "global"?',
      "optimizer.leaning_rate is unknown; did you mean optimizer.lr? known: name, lr, lrScaling, warmupEpochs, finalLr, lrSchedule, weightDecay, betas, eps, momentum, nesterov, trustCoefficient, clip, decayRule",
      "train.epochs is NaN; expected a number",
      'train.precision is "bf16"; expected one of "float32", "bfloat16"',
      "knn.k is []; expected at least 1 value",
    ]);
  });

  it("are one sentence when there is one", () => {
    expect(() => resolveRecipe({ ...least, train: { epochs: 0 } })).toThrow(
      "the recipe: train.epochs is 0; expected more than 0",
    );
  });

  it("name what is missing", () => {
    expect(issuesOf({})).toEqual(["data is missing; expected an object", "method is missing; expected an object"]);
    expect(issuesOf({ data: {}, method: {} })).toEqual([
      "data.train is missing; expected a text",
      "method.name is missing; expected a text",
    ]);
    for (const wrong of [null, 7, "recipe", [], () => 1])
      expect(issuesOf(wrong)[0]).toMatch(/^the recipe is .*; expected an object/);
  });

  it("point to the section that has a key", () => {
    expect(issuesOf({ ...least, lr: 1 })[0]).toMatch(/^lr is unknown; did you mean optimizer\.lr\?/);
    expect(issuesOf({ ...least, model: { channels: 1 } })[0]).toMatch(
      /^model\.channels is unknown; did you mean data\.channels\?/,
    );
    expect(issuesOf({ ...least, method: { name: "mst", momentum: 0.9 } })[0]).toMatch(/did you mean method\.dino\.momentum\?/);
  });

  it("tell an unknown method", () => {
    expect(issuesOf({ ...least, method: { name: "mts" } })).toEqual([
      `method.name: there is no method "mts"; did you mean "mst"? known: ${Object.keys(methods).join(", ")}`,
    ]);
    expect(issuesOf({ ...least, method: { name: "constructor" } })[0]).toContain('there is no method "constructor"');
  });

  it("are found between sections, also when another section has its own", () => {
    const crops = { globalSize: 28, localSize: 15, grayscale: 0.1 };
    const issues = issuesOf({
      data: { train: "fashion-mnist", mean: [0, 0, 0], evalSize: 30 },
      model: { patchSize: 4, width: 100, heads: 3, classToken: false },
      method: { name: "mst", dino: { crops, head: { batchNorm: true } } },
      optimizer: { momentum: 0.9, warmupEpochs: 10 },
      train: { epochs: 10, batchSize: 1 },
      knn: { everyEpochs: "1" },
    });
    expect(issues).toEqual([
      'knn.everyEpochs is "1"; expected a number',
      "data.mean is [0,0,0]; expected one value, one a channel (data.channels is 1)",
      "model.width is 100; expected a multiple of model.heads, 3",
      "data.evalSize is 30; expected a multiple of model.patchSize, 4",
      "method.dino.crops.localSize is 15; expected a multiple of model.patchSize, 4",
      "train.batchSize is 1; expected at least 2, because method.dino.head.batchNorm is on",
      'optimizer.momentum is given, but only sgd and lars have it; optimizer.name is "adamw"',
      "optimizer.warmupEpochs is 10; expected less than train.epochs, 10",
    ]);
  });

  it("tell colour operations on grey images, unless they are a default", () => {
    const crops = { grayscale: 0.1, jitter: { hue: 0.1, saturation: 0 } };
    expect(issuesOf({ ...least, method: { name: "mst", dino: { crops } } })).toEqual([
      "method.dino.crops.grayscale is 0.1; expected 0, because grey images (data.channels 1) have no colour to change",
      "method.dino.crops.jitter.hue is 0.1; expected 0, because grey images (data.channels 1) have no colour to change",
    ]);
    expect(() => resolveRecipe({ ...least, data: { train: "cifar10" }, method: { name: "mst", dino: { crops } } })).not.toThrow();
  });

  it("tell k-NN without a test set, with too small a bank, or of a token that is not there", () => {
    const folder = { ...least, data: { train: "folder:/x" } };
    expect(issuesOf({ ...folder, knn: { everyEpochs: 5 } })[0]).toMatch(
      /^knn\.everyEpochs is 5, but there is nothing to classify; give data\.test/,
    );
    expect(issuesOf({ ...least, knn: { k: [10, 200], bank: 100 } })[0]).toMatch(/^knn\.k is \[10,200\]; expected at most/);
    expect(issuesOf({ ...plain, knn: { readout: "class" }, model: { classToken: false } })[0]).toMatch(/expected "mean"/);
    expect(resolveRecipe({ ...plain, model: { classToken: false } }).knn.readout).toBe("mean");
  });

  it("tell a dataset option that makes no sense, and a size that changes nothing", () => {
    expect(issuesOf({ ...least, data: { train: "fashion-mnist?subset=many" } })[0]).toMatch(
      /^data\.train is .*expected a whole number/,
    );
    expect(issuesOf({ ...least, model: { size: "tiny", width: 64, depth: 2, heads: 1 } })[0]).toMatch(
      /^model\.size is "tiny", but/,
    );
  });
});

describe("differingKeys", () => {
  const recipe = (change: object): Recipe => resolveRecipe({ ...least, ...change });
  it("names what changes the result", () => {
    const a = recipe({});
    expect(differingKeys(a, recipe({}))).toEqual([]);
    expect(differingKeys(a, recipe({ train: { epochs: 300, seed: 1 }, optimizer: { weightDecay: 0.1 } }))).toEqual([
      "optimizer.weightDecay.from",
      "optimizer.weightDecay.to",
      "train.epochs",
      "train.seed",
      "optimizer.weightDecay",
    ]);
  });

  it("leaves out what does not", () => {
    const b = recipe({
      name: "other",
      train: { workers: 3, prefetch: 9, logEvery: 1 },
      checkpoint: { everySteps: 5, keep: 9 },
      knn: { everyEpochs: 1, k: [1] },
      pictures: { count: 2 },
    });
    expect(differingKeys(recipe({}), b)).toEqual([]);
  });

  it("does not tell a recipe from its JSON", () => {
    const a = recipe({ model: { sinCos: { order: "column-row" } } });
    expect(differingKeys(a, JSON.parse(JSON.stringify(a)) as Recipe)).toEqual([]);
  });
});
