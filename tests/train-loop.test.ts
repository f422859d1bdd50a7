// The loop as a whole: what it measures and writes, what changes nothing, what ends badly and is told.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type ProgressState, pretrain, type RecipeInput, resolveRecipe } from "../src/train/index.js";
import { tessera, writeImage } from "./cli-harness.js";
import {
  differingTensors,
  filesOf,
  largestDifference,
  readLines,
  tinyDino,
  tinyRecipe,
  trainingGround,
} from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());

/** Trains, and tells what was said and what came at each step. */
async function run(name: string, input: RecipeInput, each: (state: ProgressState) => void = () => {}) {
  const out = join(ground.folder, name);
  const lines: string[] = [];
  const reporter = { progress: each, line: (text: string) => void lines.push(text) };
  const summary = await pretrain(resolveRecipe(input), { out, reporter });
  return { ...summary, lines, metrics: readLines(out) };
}
const last = (step: number) => `checkpoints/step-${String(step).padStart(9, "0")}.safetensors`;

describe("what a run writes", () => {
  it("logs loss, terms, norms, rates, speed and what tells of collapse", async () => {
    const states: ProgressState[] = [];
    const input = tinyRecipe(ground.data, { knn: { everyEpochs: 1, k: [5, 20] }, train: { epochs: 2, logEvery: 5 } });
    const { metrics, lines, out, ...summary } = await run("log", input, (state) => states.push(state));
    const steps = metrics.filter(({ kind }) => kind === "step");
    expect(steps.map(({ step, epoch }) => [step, epoch])).toEqual([
      [1, 0],
      [5, 0],
      [10, 0],
      [15, 1],
      [20, 1],
      [24, 1],
    ]);
    for (const line of steps) {
      const { kind, step, epoch, ...values } = line;
      expect(Object.keys(values).sort()).toEqual([
        "ce",
        "dataWait",
        "featureStd",
        "gradientNorm",
        "imagesPerSecond",
        "kl",
        "loss",
        "lr",
        "maskedShare",
        "restore",
        "seconds",
        "teacherEntropy",
        "weightDecay",
      ]);
      const { loss, ce, restore, kl, teacherEntropy, dataWait, maskedShare } = values as Record<string, number>;
      expect(loss).toBeCloseTo(ce! + 0.6 * restore!, 5);
      expect(kl).toBeCloseTo(ce! - teacherEntropy!, 5);
      expect(dataWait).toBeGreaterThan(0);
      expect(dataWait).toBeLessThan(1);
      expect(maskedShare).toBeLessThan(0.25);
      for (const value of Object.values(values)) expect(value).toBeGreaterThanOrEqual(0);
    }
    // Warm-up of half an epoch from 0, then down; weight decay up from 0.04.
    const peak = (5e-4 * 16) / 256;
    expect(steps.map(({ lr }) => (lr as number) / peak)).toEqual(
      [0, 4 / 5, expect.any(Number), expect.any(Number), expect.any(Number), expect.any(Number)].map((x) =>
        typeof x === "number" ? expect.closeTo(x, 0) : x,
      ),
    );
    expect(steps[0]!.weightDecay).toBeCloseTo(0.04, 6);
    expect(steps.at(-1)!.weightDecay).toBeGreaterThan(0.39);
    const knn = metrics.filter(({ kind }) => kind === "knn");
    expect(knn.map(({ step, top1 }) => [step, Object.keys(top1 as object)])).toEqual([
      [12, ["5", "20"]],
      [24, ["5", "20"]],
    ]);
    expect(summary).toMatchObject({ status: "done", step: 24, epoch: 1, knn: knn[1]!.top1 });
    expect(lines.filter((line) => line.startsWith("k-NN after epoch"))).toHaveLength(2);
    expect(states.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    expect(states.at(-1)).toMatchObject({ totalSteps: 24, epoch: 1, epochs: 2, secondsLeft: 0 });
    expect(states[3]!.secondsLeft).toBeGreaterThan(0);
    expect(filesOf(out)).toContain(last(24));
  });

  it("says that there will be no k-NN where the images have no labels", async () => {
    const [some, others] = ["some", "others"].map((name) => join(ground.folder, name)) as [string, string];
    for (const folder of [some, others]) {
      mkdirSync(folder);
      await Promise.all([1, 2, 3, 4].map((i) => writeImage(join(folder, `${i}.jpg`), 50 * i)));
    }
    const recipe = tinyRecipe(ground.data, {
      data: { train: `folder:${some}`, test: `folder:${others}` },
      knn: { everyEpochs: 1, k: [1] },
    });
    const { lines, knn } = await run("unlabelled", {
      ...recipe,
      train: { ...recipe.train, batchSize: 2, epochs: 1, maxSteps: 1 },
    });
    expect(knn).toBeUndefined();
    expect(lines.filter((line) => /k-NN/.test(line))).toEqual([
      `warning: knn.everyEpochs is 1, but folder:${some} and folder:${others} have no labels; there will be no k-NN in this run`,
    ]);
  });

  it("saves by the clock, or not when that is off", async () => {
    const train = { epochs: 1, logEvery: 100 };
    const often = await run("often", tinyRecipe(ground.data, { checkpoint: { everyMinutes: 1e-9, keep: 99 }, train }));
    expect(filesOf(often.out).filter((name) => name.startsWith("checkpoints/"))).toHaveLength(12);
    const never = await run("never", tinyRecipe(ground.data, { checkpoint: { everyMinutes: 0, keep: 99 }, train }));
    expect(filesOf(never.out).filter((name) => name.startsWith("checkpoints/"))).toEqual([last(12)]);
  });

  it.each(["dino", "mst"] as const)("%s by the command line, from a recipe to pictures", async (name) => {
    const out = join(ground.folder, `cli-${name}`);
    const recipe = name === "dino" ? tinyDino(ground.data) : tinyRecipe(ground.data);
    const file = join(ground.folder, `${name}.json`);
    writeFileSync(file, JSON.stringify({ ...recipe, train: { ...recipe.train, epochs: 1, workers: 1 } }));
    const { code, stdout, stderr } = await tessera(["pretrain", file, "--out", out, "--json"]);
    expect(code, stderr).toBe(0);
    const { pictures, ...summary } = JSON.parse(stdout) as { pictures: string[] };
    expect(summary).toMatchObject({ status: "done", step: 12, epoch: 0 });
    expect(filesOf(out)).toEqual(
      [
        last(12),
        "export/backbone.safetensors",
        "metrics.jsonl",
        "recipe.json",
        ...pictures.map((path) => path.slice(out.length + 1)),
      ].sort(),
    );
    expect(pictures.length).toBeGreaterThan(0);
    expect(stderr).toMatch(/epoch 1\/1 {2}step 12\/12 {2}loss \d+\.\d{4} {2}\d+ images\/s {2}data wait \d+ % {2}0 s left\n/);
    expect(readLines(out)).toHaveLength(12);
  });
});

describe("what changes nothing", () => {
  it("k-NN, pictures, logging, workers and a cache leave the weights as they are, to the last bit", async () => {
    const quiet = await run("quiet", tinyRecipe(ground.data, { train: { logEvery: 100 } }));
    const busy = await run(
      "busy",
      tinyRecipe(ground.data, {
        knn: { everyEpochs: 1, k: [5] },
        pictures: { everyEpochs: 1, count: 3 },
        checkpoint: { everySteps: 3 },
        train: { logEvery: 1, workers: 2, prefetch: 3, cacheMegabytes: 1 },
      }),
    );
    for (const file of [last(24), "export/backbone.safetensors"]) {
      expect(differingTensors(join(quiet.out, file), join(busy.out, file)), file).toEqual([]);
    }
  });

  it("two accumulated batches of 8 are one of 16", async () => {
    const optimizer = { name: "sgd" as const, lr: 0.02, lrScaling: "none" as const, warmupEpochs: 0, momentum: 0.9 };
    // Low temperatures multiply the rounding of logits, which differs with the size of a product, by 25.
    const warm = { studentTemperature: 0.5, teacherTemperature: { from: 0.25, to: 0.25 } };
    const of = (batchSize: number, accumulate: number) =>
      run(`batch-${batchSize}`, {
        ...tinyDino(ground.data, {}, warm),
        optimizer,
        train: { epochs: 1, batchSize, accumulate, workers: 0, threads: 1, logEvery: 1, maxSteps: 8 },
      });
    const [one, two] = [await of(16, 1), await of(8, 2)];
    for (const [i, { loss, teacherEntropy }] of one.metrics.entries()) {
      const other = two.metrics[i] as unknown as Record<string, number>;
      expect(Math.abs(other.loss! - (loss as number)), `loss of step ${i + 1}`).toBeLessThan(1e-6);
      expect(Math.abs(other.teacherEntropy! - (teacherEntropy as number))).toBeLessThan(1e-6);
    }
    expect(largestDifference(join(one.out, last(8)), join(two.out, last(8)))).toBeLessThan(1e-6);
  });
});

describe("a collapse is told by its name", () => {
  const constant = { lrScaling: "none", lrSchedule: "constant", warmupEpochs: 0, weightDecay: 0 } as const;
  const train = { epochs: 7, batchSize: 8, accumulate: 1, workers: 0, threads: 1, logEvery: 1 };

  it("to one prototype, where the teacher is the student and nothing is centred", async () => {
    const { lines, metrics } = await run("one", {
      ...tinyDino(ground.data, {}, { momentum: 0, centerMomentum: 1, normLastLayer: false }),
      optimizer: { ...constant, lr: 1e-2 },
      train: { ...train, epochs: 2 },
    });
    const text = expect.stringMatching(/collapse to one prototype$/);
    expect(metrics.filter(({ kind }) => kind === "warning")).toEqual([
      { kind: "warning", step: expect.any(Number), epoch: expect.any(Number), text },
    ]);
    expect(lines).toContainEqual(expect.stringMatching(/^warning: the teacher puts all mass on one prototype/));
  });

  it("to uniform, where the teacher is as soft as the student", async () => {
    const soft = { studentTemperature: 1, teacherTemperature: { from: 1, to: 1 } };
    const { lines } = await run("uniform", {
      ...tinyDino(ground.data, {}, { ...soft, momentum: 0, centerMomentum: 0 }),
      optimizer: { ...constant, lr: 1e-3 },
      train,
    });
    expect(lines).toContainEqual(
      expect.stringMatching(/^warning: ce has sat at 2\.77\d\d: collapse to uniform: the loss is ln K = 2\.7726 \(K = 16\)$/),
    );
  });
});
