// Segmentation from start to end on small images of shapes: it learns, dies and goes on to the same bits, is measured again, refuses what does not
// fit.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Dataset, openDataset } from "../src/data/index.js";
import { loadSegmenter, type SegmentInput, segment, segmentPlan, testSegmenter } from "../src/evaluate/index.js";
import { loadEncoder, SwinTransformer, VisionTransformer } from "../src/models/index.js";
import { manualSeed, memoryStats, readSafetensors, tidy, writeSafetensors } from "../src/torch/index.js";
import { signalAt, tessera } from "./cli-harness.js";
import { collectGarbage } from "./garbage.js";
import { writeShapes } from "./segmentation-harness.js";

let folder: string;
let data: string;
let train: Dataset;
let test: Dataset;
let file: string;
const vit = () => new VisionTransformer({ imageSize: 32, patchSize: 4, width: 24, heads: 3, depth: 2 });
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tessera-segment-"));
  data = join(folder, "shapes");
  await writeShapes(data, { train: 8, val: 3 });
  train = await openDataset(`segmentation:${data}`);
  test = await openDataset(`segmentation:${data}`, { split: "test" });
  manualSeed(1);
  file = join(folder, "vit.safetensors");
  const encoder = vit();
  writeSafetensors(file, encoder.stateDict(), { model: JSON.stringify({ heads: 3 }) });
});
afterAll(() => rmSync(folder, { recursive: true }));

const scale = { channels: 3 as const, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const small: SegmentInput = {
  iterations: 60,
  batchSize: 4,
  lr: 3e-3,
  warmup: 5,
  dropPath: 0.05,
  crop: 32,
  fit: { short: 32 },
  head: { channels: 16, auxiliaryChannels: 8 },
  pictures: 2,
};
const options = (out: string, changes: SegmentInput = {}) => ({
  encoder: loadEncoder(file).encoder,
  train,
  test,
  scale,
  settings: segmentPlan({ changes: { ...small, ...changes } }),
  out: join(folder, out),
  workers: 0,
});
const weightsOf = (path: string) =>
  tidy(() =>
    [...readSafetensors(path).tensors].map(([name, each]) => [name, Buffer.from(each.bits().buffer).toString("base64")]),
  );

describe("segmentation", () => {
  it("learns shapes, writes what it found, and is measured again to the same numbers", async () => {
    const head = { kind: "fcn", channels: 32, dropout: 0 } as const;
    const learn = { evaluateEvery: 30, lr: 0.02, layerDecay: 1, dropPath: 0, distort: false, head } as const;
    const result = await segment(options("learn", learn));
    expect(result).toMatchObject({ status: "done", step: 60, images: { train: 8, test: 3 } });
    const { scores, confusion } = result.findings!;
    expect(scores.mIoU).toBeGreaterThan(0.7);
    expect(scores.mIoU).toBe(result.scores.mIoU);
    expect(scores.classes.map(({ name }) => name)).toEqual(["ground", "box", "disc"]);
    expect(confusion.flat().reduce((a, b) => a + b)).toBe(3 * 32 * 48);
    const out = join(folder, "learn");
    expect(existsSync(join(out, "images", "segmentation.png"))).toBe(true);
    const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line)); // biome-ignore format: one thought
    expect(lines.filter(({ kind }) => kind === "scores").map(({ step }) => step)).toEqual([30, 60]);

    const saved = loadSegmenter(result.exported!);
    expect(saved.classes).toEqual(["ground", "box", "disc"]);
    const again = await testSegmenter({ saved, test, out: join(folder, "again") });
    expect(again.scores).toEqual(scores);
    expect(existsSync(join(folder, "again", "images", "segmentation.png"))).toBe(true);
    collectGarbage();
    const { handles } = memoryStats();
    const twice = await testSegmenter({ saved: { ...saved, test: { ...saved.test, flip: true, scales: [0.5, 1] } }, test });
    expect(twice.scores.classes.map(({ pixels }) => pixels)).toEqual(scores.classes.map(({ pixels }) => pixels));
    expect(memoryStats().handles).toBe(handles);
    // Its encoder serves the other evaluations.
    expect(loadEncoder(result.exported!, { heads: 3 }).encoder).toMatchObject({ width: 24, depth: 2 });
  });

  it("stopped and resumed it ends with the same bits, also in the middle of a stretch between evaluations", async () => {
    const changes = { iterations: 8, evaluateEvery: 4, head: { kind: "fcn", channels: 8 } } as const;
    const whole = await segment(options("whole", changes));
    let stop = true;
    const reporter = {
      line: () => {},
      progress: ({ step }: { step: number }) => {
        if (step === 3 && stop) process.emit("SIGTERM");
      },
    };
    const cut = await segment({ ...options("cut", changes), reporter });
    expect(cut).toMatchObject({ status: "interrupted", step: 3 });
    expect(cut.exported).toBeUndefined();
    stop = false;
    const rest = await segment({ ...options("cut", changes), resume: true });
    expect(rest).toMatchObject({ status: "done", step: 8, scores: whole.scores });
    expect(weightsOf(rest.exported!)).toEqual(weightsOf(whole.exported!));
    // A training that is done has nothing more to do.
    expect(await segment({ ...options("cut", changes), resume: true })).toMatchObject({ status: "done", scores: whole.scores });
    await expect(segment({ ...options("cut", { ...changes, lr: 1 }), resume: true })).rejects.toThrow(
      "segment.lr (0.003 then, 1 now)",
    );
  });

  it("every head, a frozen encoder, a Swin, biases by relative position, bfloat16", async () => {
    const once = { iterations: 2, pictures: 0, test: { mode: "whole" } } as const;
    const linear = await segment(options("linear", { ...once, frozen: true, head: { kind: "linear", lastBlocks: 2 } }));
    const before = tidy(() => readSafetensors(file).tensors.get("blocks.1.mlp.fc2.weight")!.toArray());
    const after = tidy(() =>
      readSafetensors(linear.exported!).tensors.get("backbone.encoder.blocks.1.mlp.fc2.weight")!.toArray(),
    );
    expect(after).toEqual(before);
    const swin = new SwinTransformer({ imageSize: 32, embedDim: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2], windowSize: 2 });
    const over = await segment({ ...options("swin", { ...once, test: { mode: "slide" } }), encoder: swin });
    expect(readFileSync(join(folder, "swin", "metrics.jsonl"), "utf8")).toContain('"auxiliary":');
    expect(loadSegmenter(over.exported!).model.encoder).toBeInstanceOf(SwinTransformer);
    const biased = await segment({ ...options("biased", { ...once, relPosBias: "block", test: { mode: "slide" } }), bf16: true });
    const tables = [...loadSegmenter(biased.exported!).model.stateDict().keys()].filter((name) => name.endsWith("bias_table"));
    expect(tables).toHaveLength(2);
    for (const { scores } of [linear, over, biased]) expect(scores.mIoU).toBeGreaterThanOrEqual(0);
  });

  it("says in one sentence what does not fit", async () => {
    const fails = async (out: string, changes: SegmentInput, more: object = {}) => {
      const error = await segment({ ...options(out, changes), ...more }).catch((error: Error) => error);
      expect((error as Error).name).toBe("EvaluateError");
      return (error as Error).message;
    };
    expect(await fails("f1", { batchSize: 9 })).toContain("A batch has 9 images, but");
    expect(await fails("f2", { evaluateEvery: 7 })).toContain("evaluateEvery is 7, which does not divide the 60 iterations");
    expect(await fails("f3", { crop: 30 })).toContain("The images are 30x30; expected multiples of the encoder's patch size, 4.");
    expect(await fails("f4", {}, { scale: { channels: 1, mean: [0], std: [1] } })).toContain("1 channel(s), the encoder takes 3");
    const other = await openDataset(`segmentation:${data}?classes=3&split=test`);
    expect(await fails("f5", {}, { test: other })).toContain("have different classes");
    const saved = loadSegmenter(join(folder, "learn", "export", "segmenter.safetensors"));
    await expect(testSegmenter({ saved, test: other })).rejects.toThrow(
      "the segmenter was trained for 3 (ground, box, disc, ...)",
    );
    expect(() => loadSegmenter(file)).toThrow("is no trained segmenter");
    // Every test image counts: one that cannot be used is not replaced by another.
    const broken = join(folder, "broken");
    await writeShapes(broken, { train: 1, val: 2 });
    writeFileSync(join(broken, "images", "val", "1.png"), "no image");
    const damaged = await openDataset(`segmentation:${broken}`, { split: "test" });
    await expect(testSegmenter({ saved, test: damaged })).rejects.toThrow(
      `${join(broken, "images", "val", "1.png")} cannot be measured: it is not an image in a known format`,
    );
  });
});

describe("tessera evaluate segment", { timeout: 240_000 }, () => {
  const sets = ["iterations=4", "batchSize=4", "crop=32", "fit.short=32", "head.channels=8", "warmup=1"].flatMap((set) => [
    "--set",
    set,
  ]);

  it("trains, is resumed after an interruption, and measures a trained segmenter", async () => {
    const out = join(folder, "cli");
    const args = ["evaluate", "segment", "-w", file, "--data", `segmentation:${data}`, "--out", out, "--workers", "0", ...sets];
    const stopped = await tessera(args, { onStderr: signalAt("step 1/") });
    // Four steps may be over before the signal arrives, and what follows them ends at once (null).
    expect([0, 130, null], stopped.stderr).toContain(stopped.code);
    const ended = await tessera([...args, "--resume", "--json"]);
    expect(ended.code, ended.stderr).toBe(0);
    const result = JSON.parse(ended.stdout);
    expect(result).toMatchObject({ status: "done", step: 4, preset: "small", images: { train: 8, test: 3 } });
    expect(result.segmentation.classes).toHaveLength(3);

    const again = await tessera(["evaluate", "segment", "-w", out, "--test", `segmentation:${data}?split=test`, "--json", "-q"]);
    expect(again.code, again.stderr).toBe(0);
    expect(JSON.parse(again.stdout).segmentation).toEqual(result.segmentation);
    const flipped = await tessera([
      "evaluate",
      "segment",
      "-w",
      out,
      "--data",
      `segmentation:${data}`,
      "--set",
      "test.flip=true",
      "-q",
    ]);
    expect(flipped.code, flipped.stderr).toBe(0);
    expect(flipped.stdout).toMatch(
      /^segmentation by .*\nmIoU +pixel accuracy +mean accuracy\n.*%\n\nclass +IoU +accuracy +pixels\nground/,
    );
  });

  it("refuses in one sentence", async () => {
    const refused = async (...args: string[]) => {
      const { code, stderr } = await tessera(["evaluate", "segment", ...args]);
      expect(code).not.toBe(0);
      expect(stderr.trim().split("\n")).toHaveLength(1);
      return stderr;
    };
    expect(await refused()).toContain("give the encoder to start from, or a trained segmenter, with --weights PATH");
    expect(await refused("-w", file)).toContain("say on which images: --data SPEC");
    expect(await refused("-w", file, "--data", "fashion-mnist", "--resume")).toContain(
      "--resume needs the folder of the training",
    );
    expect(await refused("-w", join(folder, "cli"), "--data", `segmentation:${data}`, "--preset", "cae")).toContain(
      "is a trained segmenter, which is only measured: leave out --preset",
    );
    expect(await refused("-w", file, "--data", `segmentation:${folder}`, ...sets)).toContain("has no masks");
  });
});
