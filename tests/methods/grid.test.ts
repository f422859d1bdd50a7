// Every method over every framework and backbone that it is meant for, from a recipe to what a run leaves: the loader, real steps in
// bfloat16 (learning.test.ts has float32) whose loss falls, k-NN, pictures, an export that loads, and a resume that ends the same to the
// last bit. What is not meant to work is refused in one sentence, before a folder is made.
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArrayDataset, registerDataset } from "../../src/data/index.js";
import { TesseraError } from "../../src/errors.js";
import { methods } from "../../src/methods/index.js";
import { createBackbone, Dvae, loadEncoder, loadTokenizer } from "../../src/models/index.js";
import { manualSeed, readSafetensorsHeader, writeSafetensors } from "../../src/torch/index.js";
import { ConfigError, listCheckpoints, pretrain, resolveRecipe } from "../../src/train/index.js";
import { expectSameRun, readLines } from "../train-harness.js";
import { shape } from "./shapes.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-grid-"));
const file = (name: string) => join(folder, `${name}.safetensors`);
afterAll(() => rmSync(folder, { recursive: true }));

const images = 16;
registerDataset("drawn-shapes", () => {
  const size = 24;
  const pixels = new Uint8Array(new SharedArrayBuffer(images * size * size * 3));
  for (let i = 0; i < images; i++) {
    const draw = shape(i);
    for (let p = 0; p < size * size; p++) {
      const color = draw(((p % size) + 0.5) / size, (Math.floor(p / size) + 0.5) / size);
      pixels.set([255 * color[0], 255 * color[1], 255 * color[2]], 3 * (i * size * size + p));
    }
  }
  // Every image a class of its own: it finds itself as long as features differ from image to image.
  const labels = new Int32Array(new SharedArrayBuffer(4 * images));
  labels.set(labels.map((_, i) => i));
  const classes = Array.from(labels, String);
  return new ArrayDataset({ name: "drawn shapes", width: size, height: size, channels: 3, pixels, labels, classes });
});

const vit = { patchSize: 4, width: 32, depth: 2, heads: 2 };
const swin = { name: "swin", patchSize: 4, embedDim: 16, depths: [2, 1], heads: [1, 2], windowSize: 2 } as const;
const plain = { ...vit, classToken: false };
const columns = { vit, "vit without class token": plain, swin, "no encoder": {} };
type Column = keyof typeof columns;
type Section = Record<string, unknown>;

const crops = { globalSize: 16 };
const dino = {
  crops: { ...crops, localSize: 8, locals: 2 },
  head: { outFeatures: 64, hidden: 64, bottleneck: 32, batchNorm: true },
  freezeLastLayer: 0,
};
const moco = { crops, hidden: 64, outFeatures: 32 };
const fusion = { levels: 2, decoderWidth: 32 };
const cae = { name: "cae", crops, decoderHeads: 2, regressorDepth: 2, decoderDepth: 2 };
const codes = (tokenizer: string) => ({ ...cae, target: { kind: "tokens", tokenizer } });
const features = (encoder: string) => ({ ...cae, target: { kind: "features", encoder } });
const randsac = { name: "randsac", crops, decoderDepth: 2, decoderHeads: 2 };
const onBoth: Column[] = ["vit", "swin"];
const onAll: Column[] = ["vit", "vit without class token", "swin"];

/** The rows of the grid: what a method is over, and the columns in which it works. */
const rows: Record<string, { method: Section & { name: string }; works: Column[] }> = {
  dino: { method: { name: "dino", ...dino }, works: onAll },
  "mst, attention": { method: { name: "mst", dino, num: 2, decoderWidth: 32 }, works: onAll },
  "mst, random": { method: { name: "mst", dino, mask: "random", decoder: "off" }, works: ["vit"] },
  "moco-v3": { method: { name: "moco-v3", ...moco }, works: onAll },
  "repre over dino": { method: { name: "repre", framework: { name: "dino", ...dino }, ...fusion }, works: onAll },
  "repre over moco-v3": { method: { name: "repre", framework: { name: "moco-v3", ...moco }, ...fusion }, works: onBoth },
  mae: {
    method: { name: "mae", crops, decoderWidth: 32, decoderDepth: 1, decoderHeads: 2 },
    works: ["vit", "vit without class token"],
  },
  "cae to pixels": { method: cae, works: ["vit", "vit without class token"] },
  "cae to codes": { method: codes(file("tokenizer")), works: ["vit"] },
  "cae to features of a vit": { method: features(file("vit")), works: ["vit"] },
  "cae to features of a swin": { method: features(file("swin")), works: ["vit"] },
  "randsac of squares": { method: randsac, works: ["vit without class token"] },
  "randsac of blobs": { method: { ...randsac, segments: { kind: "blob", count: 5 } }, works: ["vit without class token"] },
  tokenizer: {
    method: {
      name: "tokenizer",
      crops,
      width: 16,
      decoderWidth: 16,
      groups: 3,
      blocksPerGroup: 1,
      vocabulary: 32,
      decoderInit: 16,
    },
    works: ["no encoder"],
  },
};

const steps = 12;
/** A recipe of one cell; `changes` go over its sections. */
function recipeOf(row: string, column: Column, changes: Record<string, object> = {}): unknown {
  const recipe: Record<string, object> = {
    data: { train: "drawn-shapes:train", test: "drawn-shapes:test", mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
    model: columns[column],
    method: rows[row]!.method,
    optimizer: { lr: 2e-3, lrScaling: "none", lrSchedule: "constant", warmupEpochs: 0 },
    train: { epochs: steps, batchSize: images, precision: "bfloat16", workers: 0, logEvery: 1, threads: 1 },
    checkpoint: { everySteps: steps - 2 },
    knn: { everyEpochs: steps, k: [1] },
    pictures: { count: 2 },
  };
  for (const [section, values] of Object.entries(changes)) recipe[section] = { ...recipe[section], ...values };
  return recipe;
}

beforeAll(() => {
  manualSeed(1);
  writeSafetensors(file("tokenizer"), new Dvae({ width: 8, groups: 3, vocabulary: 16 }).stateDict());
  writeSafetensors(file("grey-tokenizer"), new Dvae({ channels: 1, width: 8, groups: 3, vocabulary: 16 }).stateDict());
  writeSafetensors(file("vit"), createBackbone({ ...vit, imageSize: 16 }).stateDict());
  writeSafetensors(file("swin"), createBackbone({ ...swin, imageSize: 16 }).stateDict());
  writeSafetensors(file("grey-vit"), createBackbone({ ...vit, channels: 1, imageSize: 16 }).stateDict());
  writeFileSync(file("text"), "not a safetensors file");
});

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

test("the grid has every method", () => {
  expect([...new Set(Object.values(rows).map(({ method }) => method.name))].sort()).toEqual(Object.keys(methods).sort());
});

describe("works", () => {
  for (const [row, { works }] of Object.entries(rows)) {
    for (const column of works) {
      test(`${row}, ${column}`, async () => {
        const evaluated = column !== "no encoder";
        const recipe = resolveRecipe(recipeOf(row, column, evaluated ? {} : { knn: { everyEpochs: 0 } }));
        const out = join(folder, `${row}, ${column}`);
        const { status, knn, pictures, export: exported } = await pretrain(recipe, { out });
        const losses = readLines(out).flatMap(({ kind, loss }) => (kind === "step" ? [loss as number] : []));
        expect([status, losses.length]).toEqual(["done", steps]);
        expect(mean(losses.slice(-3)), losses.map((each) => each.toFixed(3)).join(" ")).toBeLessThan(mean(losses.slice(0, 3)));
        expect(knn).toEqual(evaluated ? { 1: 100 } : undefined);
        expect(pictures.length).toBeGreaterThan(1);
        if (evaluated) expect(loadEncoder(exported).encoder.levelShapes).toHaveLength(2);
        else expect(loadTokenizer(exported).stride).toBe(4);
        expect(readSafetensorsHeader(exported).metadata.method).toBe(recipe.method.name);

        const again = `${out}, resumed`;
        cpSync(out, again, { recursive: true });
        rmSync(listCheckpoints(join(again, "checkpoints")).at(-1)!.path);
        await pretrain(recipe, { out: again, resume: true });
        expectSameRun(out, again);
      });
    }
  }
});

/** What `pretrain` says where it does not begin: one line for each problem. */
async function refusal(recipe: unknown): Promise<string[]> {
  const out = join(folder, "refused");
  try {
    await pretrain(resolveRecipe(recipe), { out });
  } catch (error) {
    expect(error).toBeInstanceOf(TesseraError);
    expect(existsSync(out)).toBe(false);
    return error instanceof ConfigError ? error.issues.map(({ message }) => message) : [(error as Error).message];
  }
  return expect.fail("the run was made");
}

describe("is refused in one sentence", () => {
  for (const [name, { backbones = ["vit"] }] of Object.entries(methods)) {
    if (backbones.length === 0 || backbones.includes("swin")) continue;
    const row = Object.keys(rows).find((each) => rows[each]!.method.name === name)!;
    test(`${name} over swin`, async () => {
      expect(await refusal(recipeOf(row, "swin"))).toEqual([
        `model.name is "swin"; expected "vit", because that is what the method "${name}" works over`,
      ]);
    });
  }

  const refused: Record<string, [row: string, column: Column, changes: Record<string, object>, sentence: string | RegExp]> = {
    "randsac with a class token": [
      "randsac of squares",
      "vit",
      { model: { classToken: true } },
      'method.name is "randsac", in which no token may see all segments; expected model.classToken to be false',
    ],
    "mst over masked patches that are none": [
      "mst, attention",
      "vit",
      { method: { mask: "none", region: "masked" } },
      'method.region is "masked"; expected "image", because method.mask is "none"',
    ],
    "cae to all tokens without a class token": [
      "cae to features of a vit",
      "vit without class token",
      {},
      'method.target.tokens is "all"; expected "masked", because model.classToken is false',
    ],
    "moco-v3 of single images": [
      "moco-v3",
      "vit",
      { train: { batchSize: 1 } },
      'method.name is "moco-v3", which compares the images of a batch; expected train.batchSize of at least 2',
    ],
    "repre over moco-v3 of single images": [
      "repre over moco-v3",
      "vit",
      { train: { batchSize: 1 }, method: { decoderBatchNorm: false } },
      'method.framework.name is "moco-v3", which compares the images of a batch; expected train.batchSize of at least 2',
    ],
    "batch norm of single images": [
      "dino",
      "swin",
      { train: { batchSize: 1 } },
      "train.batchSize is 1; expected at least 2, because method.head.batchNorm is on",
    ],
    "repre over mst": [
      "repre over dino",
      "vit",
      { method: { framework: { name: "mst" } } },
      'method.framework.name is "mst"; expected one of "dino", "moco-v3"',
    ],
    "repre's levels that a swin does not have": [
      "repre over dino",
      "swin",
      { method: { levels: [0, 2] } },
      "method.levels is [0,2]: level 2 does not exist: the encoder has levels 0 to 1",
    ],
    "the class token's k-NN of a swin": [
      "moco-v3",
      "swin",
      { knn: { readout: "class" } },
      'knn.readout is "class"; expected "mean", because a Swin has no class token',
    ],
    "crops that patches do not fill": [
      "mae",
      "vit",
      { method: { crops: { globalSize: 18 } } },
      "method.crops.globalSize is 18; expected a multiple of model.patchSize, 4",
    ],
    "crops that a swin's stages do not fill": [
      "dino",
      "swin",
      { method: { crops: { ...crops, localSize: 12, locals: 2 } } },
      "method.crops.localSize is 12; expected a multiple of model.patchSize, doubled from stage to stage, 8",
    ],
    "k-NN of a tokenizer": [
      "tokenizer",
      "no encoder",
      {},
      'knn.everyEpochs is 12; expected 0, because the method "tokenizer" trains no encoder to evaluate',
    ],
    "crops that a tokenizer's cells do not fill": [
      "tokenizer",
      "no encoder",
      { method: { crops: { globalSize: 18 } }, knn: { everyEpochs: 0 } },
      "method.crops.globalSize is 18; expected a multiple of 2^(groups - 1), the side of a code's cell",
    ],
    "a tokenizer that is missing": [
      "cae to codes",
      "vit",
      { method: codes(file("none")) },
      `method.target.tokenizer: ${file("none")} cannot be read: ENOENT: no such file or directory, open '${file("none")}'`,
    ],
    "a tokenizer that is an encoder": [
      "cae to codes",
      "vit",
      { method: codes(file("vit")) },
      /^method\.target\.tokenizer: .*vit\.safetensors holds no tokenizer: the file has no encoder\.blocks\.input\.w/,
    ],
    "a tokenizer of grey images": [
      "cae to codes",
      "vit",
      { method: codes(file("grey-tokenizer")) },
      `method.target.tokenizer is "${file("grey-tokenizer")}", a tokenizer of images with 1 channel; expected one for the data's 3`,
    ],
    "an encoder that is missing": [
      "cae to features of a vit",
      "vit",
      { method: features(file("none")) },
      `method.target.encoder: ${file("none")} cannot be read: ENOENT: no such file or directory, open '${file("none")}'`,
    ],
    "an encoder that is a text": [
      "cae to features of a vit",
      "vit",
      { method: features(file("text")) },
      /^method\.target\.encoder: .*text\.safetensors is not a sound safetensors file/,
    ],
    "an encoder that is a tokenizer": [
      "cae to features of a vit",
      "vit",
      { method: features(file("tokenizer")) },
      /^method\.target\.encoder: .*tokenizer\.safetensors holds no encoder: the file has no patch_embed\.proj\.weight/,
    ],
    "an encoder of grey images": [
      "cae to features of a vit",
      "vit",
      { method: features(file("grey-vit")) },
      `method.target.encoder is "${file("grey-vit")}", an encoder of images with 1 channel; expected one for the data's 3`,
    ],
  };
  for (const [title, [row, column, changes, sentence]] of Object.entries(refused)) {
    test(title, async () => {
      const wanted = typeof sentence === "string" ? sentence : expect.stringMatching(sentence);
      expect(await refusal(recipeOf(row, column, changes))).toEqual([wanted]);
    });
  }
});
