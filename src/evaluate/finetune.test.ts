// Fine-tuning from start to end: small generated images are learnt, a training that dies goes on to the same bits, what does not fit is refused.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { ArrayDataset, evalViews, Rng, sharedBytes, sharedInts } from "../data/index.js";
import { silentReporter } from "../fit/index.js";
import { loadEncoder, SwinTransformer, VisionTransformer } from "../models/index.js";
import { autocast, manualSeed, memoryStats, readSafetensors, tidy } from "../torch/index.js";
import { type FinetuneOptions, finetune } from "./finetune.js";
import { Classifier, trainableEncoder } from "./finetune-model.js";
import { type FinetuneInput, finetunePlan } from "./finetune-settings.js";
import { FinetuneTask, judge } from "./finetune-task.js";

const SIDE = 16;
const classes = ["rows", "columns", "squares"];

/** Noisy stripes and squares. */
function images(count: number, seed: number, { labels = true, names = classes } = {}): ArrayDataset {
  const rng = new Rng(seed);
  const pixels = sharedBytes(count * SIDE * SIDE * 3);
  for (let i = 0; i < count; i++) {
    const phase = rng.intBelow(4);
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < SIDE; x++) {
        const [row, column] = [Math.floor((y + phase) / 2) % 2, Math.floor((x + phase) / 2) % 2];
        const on = [row, column, row ^ column][i % 3]! === 1;
        for (let c = 0; c < 3; c++) pixels[((i * SIDE + y) * SIDE + x) * 3 + c] = (on ? 150 : 50) + rng.intBelow(60);
      }
  }
  const shared = sharedInts(Array.from({ length: count }, (_, i) => i % names.length));
  const known = labels ? { labels: shared, classes: names } : {};
  return new ArrayDataset({ name: `generated ${seed}`, width: SIDE, height: SIDE, channels: 3, pixels, ...known });
}

const plan = evalViews({ size: SIDE, resize: "exact", normalization: { mean: [0.4, 0.4, 0.4], std: [0.25, 0.25, 0.25] } });
const vitConfig = { imageSize: SIDE, patchSize: 4, width: 32, depth: 3, heads: 2, init: "mae" } as const;

let folder: string;
let encoder: VisionTransformer;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-finetune-"));
  manualSeed(1);
  encoder = new VisionTransformer(vitConfig);
});
afterAll(() => rmSync(folder, { recursive: true }));

const quick: FinetuneInput = {
  epochs: 6,
  batchSize: 24,
  baseLr: 0.02,
  warmupEpochs: 1,
  dropPath: 0.05,
  headStd: 0.02,
  flip: 0,
  crop: { scale: [0.8, 1] },
};
/** Everything that draws a number. */
const lively: FinetuneInput = {
  ...quick,
  epochs: 2,
  mixup: 0.8,
  cutmix: 1,
  randAugment: "rand-m9-mstd0.5-inc1",
  erase: 0.25,
  flip: 0.5,
  dropPath: 0.2,
  ema: 0.9,
  relPosBias: "block",
  clip: 5,
  evaluateEvery: 1,
};

function options(name: string, changes: FinetuneInput, more: Partial<FinetuneOptions> = {}): FinetuneOptions {
  const out = join(folder, name);
  return {
    encoder,
    train: images(240, 1),
    test: images(60, 2),
    plan,
    settings: finetunePlan({ changes }),
    out,
    workers: 0,
    ...more,
  };
}

const filesOf = (path: string) => readFileSync(path);

describe("fine-tuning", () => {
  it("learns small images, exports a classifier by timm's names and leaves nothing behind", async () => {
    const before = [...encoder.stateDict().values()].map((each) => each.toArray());
    const result = await finetune(options("learns", quick));
    expect(result).toMatchObject({ status: "done", step: 60, images: { train: 240, test: 60 }, classes });
    expect(result.scores.top1).toBeGreaterThan(0.9);
    expect(result.scores.top5).toBe(1);
    expect(result.confusion!.flat().reduce((a, b) => a + b)).toBe(60);
    expect(result.confusion!.reduce((sum, row, i) => sum + row[i]!, 0) / 60).toBeCloseTo(result.scores.top1!, 12);
    expect([...encoder.stateDict().values()].map((each) => each.toArray())).toEqual(before);
    const file = result.exported!.classifier;
    const { tensors, metadata } = readSafetensors(file);
    expect(tensors.get("head.weight")!.shape).toEqual([3, 32]);
    expect([...tensors.keys()].filter((name) => /norm\.weight$/.test(name) && !name.startsWith("blocks"))).toEqual([
      "fc_norm.weight",
    ]);
    expect(metadata).toMatchObject({ evaluation: "finetune", pool: "mean", classes: JSON.stringify(classes) });
    // The file makes the same classifier again, and an encoder for the other evaluations.
    const loaded = loadEncoder(file);
    expect(loaded.ignored).toEqual(["head.bias", "head.weight"]);
    const again = new Classifier(loaded.encoder, 3, { pool: "mean", poolNorm: "pre-trained", headStd: 1 });
    again.head.loadStateDict(tidy(() => new Map(["weight", "bias"].map((part) => [part, tensors.get(`head.${part}`)!.clone()]))));
    const [judged] = await judge([again], { test: images(60, 2), plan, classes: 3, bf16: false, workers: 0 });
    expect(judged!.top1).toBe(result.scores.top1);
    expect(judged!.loss).toBeCloseTo(result.scores.loss!, 6);
    for (const each of tensors.values()) each.dispose();
    again.dispose();
  });

  it("that dies goes on to the same bits, with mixing, erasing, RandAugment, dropped paths and averaged weights", async () => {
    const whole = await finetune(options("whole", lively));
    expect(whole.scores.averagedTop1).toBeGreaterThan(0);
    for (const precision of ["float32", "bfloat16"]) {
      if (precision === "bfloat16") await finetune(options("whole-16", lively, { bf16: true }));
      const name = precision === "bfloat16" ? "died-16" : "died";
      const how = { bf16: precision === "bfloat16", checkpointMinutes: 0 };
      for (const [life, last] of [3, 11, 14].entries()) {
        const reporter = {
          ...silentReporter,
          progress: ({ step }: { step: number }) => {
            if (step === last) throw new Error("the end of a life");
          },
        };
        await expect(finetune(options(name, lively, { ...how, reporter, resume: life > 0 }))).rejects.toThrow(
          "the end of a life",
        );
      }
      const resumed = await finetune(options(name, lively, { ...how, resume: true }));
      const reference = join(folder, precision === "bfloat16" ? "whole-16" : "whole");
      for (const file of ["classifier.safetensors", "averaged/classifier.safetensors"]) {
        const [a, b] = [reference, resumed.out].map((out) => filesOf(join(out, "export", file)));
        expect(Buffer.compare(a!, b!), `${precision} ${file}`).toBe(0);
      }
      if (precision === "float32") expect(resumed.scores).toEqual(whole.scores);
      expect(filesOf(join(resumed.out, "confusion.json"))).toEqual(filesOf(join(reference, "confusion.json")));
    }
  });

  it("refuses to go on with other settings, by key", async () => {
    const changed = options("whole", { ...lively, layerDecay: 0.5 }, { resume: true });
    await expect(finetune(changed)).rejects.toThrow("finetune.layerDecay (0.75 then, 0.5 now)");
    await expect(finetune(options("whole", lively, { resume: true, fromScratch: true }))).rejects.toThrow("fromScratch");
    await expect(finetune(options("whole", lively))).rejects.toThrow("already holds a training");
  });

  it("in parts of a batch has the whole batch's loss and gradients", async () => {
    const measured = async (microBatch: number | null, bf16 = false) => {
      manualSeed(4);
      const settings = finetunePlan({ changes: { ...quick, mixup: 0.8, cutmix: 1, erase: 0.5, dropPath: 0, microBatch } });
      const model = new Classifier(trainableEncoder(encoder, { ...settings, imageSize: SIDE, scratch: false }), 3, settings);
      const data = { train: images(240, 1), test: images(60, 2), plan, classes: 3 };
      const task = new FinetuneTask({
        ...data,
        model,
        settings,
        average: undefined,
        bf16: false,
        workers: 0,
        onConfusion: () => {},
      });
      const { value } = await task.batches(0, 3).next();
      const loss = tidy(() => {
        const forward = () => task.step(value!, { step: 3, epoch: 0, totalSteps: 60 });
        const { loss } = bf16 ? autocast({}, forward) : forward();
        loss.backward();
        return loss.item();
      });
      await task.close();
      const gradients = new Map([...model.namedParameters()].map(([name, each]) => [name, each.grad?.toArray()]));
      model.dispose();
      return { loss, gradients };
    };
    const whole = await measured(null);
    for (const microBatch of [1, 7, 12]) {
      const parts = await measured(microBatch);
      expect(Math.abs(parts.loss - whole.loss)).toBeLessThan(1e-5);
      for (const [name, gradient] of whole.gradients) {
        const worst = Math.max(0, ...(gradient ?? []).map((each, i) => Math.abs(each - parts.gradients.get(name)![i]!)));
        expect(worst, `${name} in parts of ${microBatch}`).toBeLessThan(1e-5);
      }
    }
    // Parts that go backward inside of autocast leave the gradients of float32, as far as bfloat16 goes.
    const half = await measured(7, true);
    expect(Math.abs(half.loss - whole.loss)).toBeLessThan(0.02);
    const flat = ({ gradients }: typeof whole) => [...gradients.values()].flatMap((each) => each ?? []);
    const [a, b] = [flat(whole), flat(half)];
    const dot = (x: number[], y: number[]) => x.reduce((sum, each, i) => sum + each * y[i]!, 0);
    expect(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toBeGreaterThan(0.99);
    expect(Math.sqrt(dot(b, b) / dot(a, a))).toBeCloseTo(1, 1);
  });

  it("starts from fresh weights, freezes what it is told, takes a Swin and images of another size", async () => {
    const fresh = await finetune(options("fresh", { ...quick, epochs: 1 }, { fromScratch: true }));
    const { tensors } = readSafetensors(fresh.exported!.classifier);
    expect(
      tidy(() => tensors.get("blocks.0.mlp.fc1.weight")!.sub(encoder.blocks[0]!.mlp.fc1.weight).abs().mean().item()),
    ).toBeGreaterThan(0.05);
    const frozen = await finetune(options("frozen", { ...quick, epochs: 1, freeze: "patch-embed", lastBlocks: 1 }));
    const kept = readSafetensors(frozen.exported!.classifier).tensors;
    for (const name of ["patch_embed.proj.weight", "cls_token", "blocks.1.mlp.fc2.bias"]) {
      expect(kept.get(name)!.equal(encoder.stateDict().get(name)!), name).toBe(true);
    }
    expect(kept.get("blocks.2.mlp.fc2.bias")!.equal(encoder.blocks[2]!.mlp.fc2.bias!)).toBe(false);
    const swin = new SwinTransformer({
      imageSize: SIDE,
      patchSize: 2,
      embedDim: 8,
      depths: [1, 1],
      heads: [1, 2],
      windowSize: 4,
    });
    const larger = evalViews({ size: 24, resize: "exact", normalization: plan });
    const tuned = await finetune(options("swin", { ...quick, epochs: 1 }, { encoder: swin, plan: larger }));
    expect(readSafetensors(tuned.exported!.classifier).tensors.has("head.fc.weight")).toBe(true);
    const smaller = await finetune(options("larger", { ...quick, epochs: 1, pool: "class" }, { plan: larger }));
    expect(readSafetensors(smaller.exported!.classifier).tensors.get("pos_embed")!.shape).toEqual([1, 37, 32]);
  });

  it("holds as many tensors after a training as before it", async () => {
    await finetune(options("memory-1", { ...lively, epochs: 1 }));
    await collectGarbage();
    const before = memoryStats().handles;
    await finetune(options("memory-2", { ...lively, epochs: 1 }));
    await collectGarbage();
    expect(memoryStats().handles - before).toBeLessThanOrEqual(4);
  });
});

describe("what does not fit is refused in a sentence, before anything is written", () => {
  const cases: [string, () => FinetuneOptions, string][] = [
    [
      "images without labels",
      () => options("x", quick, { train: images(30, 1, { labels: false }) }),
      "has no labels; fine-tuning needs them",
    ],
    [
      "one class",
      () => options("x", quick, { train: images(30, 1, { names: ["rows"] }), test: images(30, 2, { names: ["rows"] }) }),
      "has the class rows alone; fine-tuning needs at least two",
    ],
    [
      "other classes in the test images",
      () => options("x", quick, { test: images(30, 2, { names: ["a", "b", "c"] }) }),
      "different classes",
    ],
    [
      "a batch larger than the images",
      () => options("x", { ...quick, batchSize: 500 }),
      "A batch has 500 images, but generated 1 has 240",
    ],
    [
      "a size that is no multiple of the patch",
      () => options("x", quick, { plan: evalViews({ size: 18 }) }),
      "expected multiples of the encoder's patch size, 4",
    ],
    [
      "other channels",
      () => options("x", quick, { plan: evalViews({ size: 16, channels: 1 }) }),
      "The images have 1 channel(s), the encoder takes 3",
    ],
    ["a warm-up longer than the training", () => options("x", { ...quick, warmupEpochs: 9 }), "the warm-up"],
    ["more blocks than there are", () => options("x", { ...quick, lastBlocks: 5 }), "the encoder has 3 blocks"],
    [
      "a class token that is not there",
      () => options("x", { ...quick, pool: "class" }, { encoder: new VisionTransformer({ ...vitConfig, classToken: false }) }),
      "the encoder has none",
    ],
  ];
  for (const [name, make, sentence] of cases) {
    it(name, async () => {
      await expect(finetune(make())).rejects.toThrow(sentence);
      expect(existsSync(join(folder, "x"))).toBe(false);
    });
  }

  it("a loss that is not finite stops the training by name", async () => {
    const wild = options("wild", { ...quick, baseLr: 1e30, warmupEpochs: 0 });
    await expect(finetune(wild)).rejects.toThrow(/not finite|is NaN|Infinity/);
    expect(readdirSync(join(folder, "wild"))).not.toContain("export");
  });
});
