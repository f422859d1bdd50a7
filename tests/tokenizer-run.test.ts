// A tokenizer as a run: a method without an encoder leaves its own export, goes on where it was stopped, and has no k-NN.
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer } from "../src/models/index.js";
import { readSafetensors, readSafetensorsHeader, tidy } from "../src/torch/index.js";
import {
  CollapseMonitor,
  defineStudy,
  freshEncoder,
  pretrain,
  type RecipeInput,
  resolveRecipe,
  resolveStudy,
} from "../src/train/index.js";
import { expectSameRun, filesOf, readLines, trainingGround } from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());
const at = (name: string) => join(ground.folder, name);
const method = {
  name: "tokenizer",
  crops: { globalSize: 28 },
  ...{ width: 8, decoderWidth: 8, groups: 3, blocksPerGroup: 1, vocabulary: 32, decoderInit: 8, averaging: 0.5 },
} as const;
const input: RecipeInput = {
  data: { train: ground.data },
  method,
  train: { batchSize: 8, accumulate: 2, epochs: 2, maxSteps: 10, workers: 0, logEvery: 3, threads: 1 },
  checkpoint: { everySteps: 5, keep: 2 },
};
beforeAll(async () => void (await pretrain(resolveRecipe(input), { out: at("whole") })));

describe("a run", () => {
  it("leaves the tokenizer, its log with the codes in use, and pictures", () => {
    expect(filesOf(at("whole")).filter((name) => /^(export|images)/.test(name))).toEqual([
      "export/tokenizer.safetensors",
      "images/final-loss.png",
      "images/final-reconstruction.png",
    ]);
    const { metadata } = readSafetensorsHeader(at("whole/export/tokenizer.safetensors"));
    expect(metadata).toMatchObject({ method: "tokenizer", branch: "average", step: "10" });
    expect(JSON.parse(metadata.model!)).toMatchObject({ name: "dvae", channels: 1, groups: 3, vocabulary: 32 });
    expect(metadata).not.toHaveProperty("mean");
    const steps = readLines(at("whole")).filter(({ kind }) => kind === "step");
    expect(steps.map(({ step }) => step)).toEqual([1, 3, 6, 9, 10]);
    for (const line of steps) {
      expect(line).toMatchObject({ rec: expect.any(Number), kl: expect.any(Number), temperature: expect.any(Number) });
      expect(line.perplexity).toBeGreaterThanOrEqual(1);
      expect(line.usedCodes).toBeGreaterThan(0);
    }
  });

  it("stopped and resumed is the same run, to the last bit", async () => {
    cpSync(at("whole"), at("resumed"), { recursive: true });
    for (const name of ["checkpoints/step-000000010.safetensors", "export", "images"]) {
      rmSync(join(at("resumed"), name), { recursive: true });
    }
    await pretrain(resolveRecipe(input), { out: at("resumed"), resume: true });
    expectSameRun(at("resumed"), at("whole"));
  });

  it("starts from another's export, or from a checkpoint", async () => {
    const exported = at("whole/export/tokenizer.safetensors");
    const still: RecipeInput = { ...input, optimizer: { lr: 1e-30, finalLr: 0 }, train: { ...input.train, maxSteps: 1 } };
    await pretrain(resolveRecipe(still), { out: at("from"), initFrom: exported });
    tidy(() => {
      const [before, after] = [exported, at("from/export/tokenizer.safetensors")].map((path) => readSafetensors(path).tensors);
      for (const [name, tensor] of before!) {
        expect(tensor.sub(after!.get(name)!).abs().amax().item(), name).toBeLessThan(1e-6);
      }
    });
    const checkpoint = loadTokenizer(at("whole/checkpoints/step-000000010.safetensors"));
    const last = loadTokenizer(exported);
    for (const [name, tensor] of last.stateDict()) expect(tensor.equal(checkpoint.stateDict().get(name)!), name).toBe(true);
  });
});

describe("a method without an encoder", () => {
  it("takes no part of the recipe's model, whatever it says, and resolves to itself", () => {
    const resolved = resolveRecipe({ ...input, model: { patchSize: 16 } });
    expect(resolveRecipe(resolved)).toEqual(resolved);
  });

  it("has no k-NN", () => {
    expect(() => resolveRecipe({ ...input, knn: { everyEpochs: 1 } })).toThrow(
      'knn.everyEpochs is 1; expected 0, because the method "tokenizer" trains no encoder to evaluate',
    );
    expect(() => freshEncoder(resolveRecipe(input))).toThrow('"tokenizer" trains no encoder to evaluate');
  });

  it("is no arm of a study", async () => {
    const study = defineStudy({ base: input, arms: { only: {} } });
    await expect(resolveStudy(study)).rejects.toThrow('arm "only": its method "tokenizer" trains no encoder to evaluate');
  });

  it("is told of a size that cells do not fill by its key", () => {
    expect(() => resolveRecipe({ ...input, method: { ...method, crops: { globalSize: 30 } } })).toThrow(
      "method.crops.globalSize is 30; expected a multiple of 2^(groups - 1), the side of a code's cell",
    );
    expect(() => resolveRecipe({ ...input, method: { ...method, width: 6 } })).toThrow(
      "method.width is 6; expected a multiple of 4",
    );
  });
});

it("few codes in use are called collapse", () => {
  const level = { term: "perplexity", value: 2, below: true, meaning: "collapse to few codes" };
  const monitor = new CollapseMonitor([level], { patience: 3 });
  const says = (values: readonly number[]) => values.flatMap((perplexity) => monitor.look({ perplexity }));
  expect(says([1, 1.2, 5, 1.5, 1.9])).toEqual([]);
  expect(says([1.1, 1])).toEqual(["perplexity has sat at 1.1000: collapse to few codes"]);
  expect(new CollapseMonitor([level], { patience: 1 }).look({ loss: 1 })).toEqual([]);
});
