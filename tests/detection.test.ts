// Detection from start to end on small images of shapes: it learns, dies and goes on to the same bits, is measured again, refuses what does not fit.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CocoDataset, encodeMask, maskArea, maskBox, openDataset, toRleJson } from "../src/data/index.js";
import { type DetectionInput, detectionSettingsOf, loadDetector, testDetector, trainDetector } from "../src/evaluate/index.js";
import { loadEncoder, SwinTransformer, VisionTransformer } from "../src/models/index.js";
import { manualSeed, readSafetensors, tidy, writeSafetensors } from "../src/torch/index.js";
import { signalAt, tessera } from "./cli-harness.js";
import { shapes, writeColours } from "./segmentation-harness.js";

const [height, width] = [32, 48];
let folder: string;
let file: string;
let spec: string;
let train: CocoDataset;

/** Images of a box and a disc as COCO has them; the last one has no object. */
async function writeScenes(to: string, count: number, categories = ["box", "disc"]): Promise<string> {
  const annotations: object[] = [];
  const images: object[] = [];
  for (let i = 0; i <= count; i++) {
    const { rgb, labels } = i < count ? shapes(i, height, width) : { rgb: new Uint8Array(3 * height * width), labels: new Uint8Array(height * width) };
    await writeColours(join(to, `${i}.png`), [height, width], rgb);
    images.push({ id: 10 + i, file_name: `${i}.png`, height, width });
    for (const label of [1, 2]) {
      const mask = encodeMask(labels.map((each) => Number(each === label)), [height, width]); // biome-ignore format: one thought
      if (maskArea(mask) === 0) continue;
      annotations.push({ id: annotations.length + 1, image_id: 10 + i, category_id: 3 * label, bbox: maskBox(mask), area: maskArea(mask), iscrowd: 0, segmentation: toRleJson(mask) });
    }
  } // biome-ignore format: one thought
  // What else annotations have: one pixel, outside, a crowd.
  const dot = new Uint8Array(height * width);
  dot[5 * width + 7] = 1;
  const rest = (id: number, bbox: number[], iscrowd = 0) => ({
    id,
    image_id: 10,
    category_id: 3,
    bbox,
    area: 1,
    iscrowd,
    segmentation: toRleJson(encodeMask(dot, [height, width])),
  });
  annotations.push(rest(900, [7, 5, 1, 1]), rest(901, [60, 40, 5, 5]), rest(902, [0, 0, 20, 20], 1));
  const path = join(to, "annotations.json");
  const named = categories.map((name, i) => ({ id: 3 * (i + 1), name }));
  writeFileSync(path, JSON.stringify({ images, annotations, categories: named }));
  return `coco:${path},${to}`;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tessera-detect-"));
  spec = await writeScenes(join(folder, "scenes"), 6);
  train = (await openDataset(spec)) as CocoDataset;
  manualSeed(1);
  file = join(folder, "vit.safetensors");
  const encoder = new VisionTransformer({ imageSize: 32, patchSize: 8, width: 24, heads: 3, depth: 4 });
  writeSafetensors(file, encoder.stateDict(), { model: JSON.stringify({ heads: 3 }) });
});
afterAll(() => rmSync(folder, { recursive: true }));

const normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const small: DetectionInput = {
  epochs: 2,
  batchSize: 2,
  lr: 2e-3,
  warmupSteps: 3,
  shorter: [32],
  testShorter: 32,
  longest: 48,
  channels: 16,
  boxWidth: 32,
  maskLayers: [16],
  boxSamples: 16,
  proposalsBefore: { training: 100, testing: 100 },
  proposalsAfter: { training: 30, testing: 20 },
  pictures: 1,
};
const options = (out: string, changes: DetectionInput = {}) => ({
  encoder: loadEncoder(file).encoder,
  train,
  test: train,
  normalization,
  settings: detectionSettingsOf({ changes: { ...small, ...changes } }),
  out: join(folder, out),
  workers: 0,
});
const weightsOf = (path: string) =>
  tidy(() =>
    [...readSafetensors(path).tensors].map(([name, each]) => [name, Buffer.from(each.bits().buffer).toString("base64")]),
  );

describe("detection", () => {
  it("learns shapes, writes what it found, and is measured again to the same numbers", async () => {
    const result = await trainDetector(options("learn", { epochs: 20, layerDecay: 1, dropPath: 0, flip: 0 }));
    expect(result).toMatchObject({ status: "done", step: 60, images: { train: 6, test: 7 }, categories: 2 });
    const lines = readFileSync(join(result.out, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line)); // biome-ignore format: one thought
    const steps = lines.filter(({ kind }) => kind === "step");
    expect(Object.keys(steps[0])).toEqual(expect.arrayContaining(["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"])); // biome-ignore format: names
    expect(steps.at(-1).loss).toBeLessThan(steps[0].loss / 2);
    expect(result.scores.boxAP50).toBeGreaterThan(0.3);
    expect(result.scores.maskAP50).toBeGreaterThan(0.3);
    expect(existsSync(join(result.out, "images", "image-10.png"))).toBe(true);
    const found = JSON.parse(readFileSync(result.resultsFile, "utf8"));
    expect(found[0]).toMatchObject({ category_id: expect.any(Number), segmentation: { size: [height, width] } });

    const detector = loadDetector(result.detector!);
    expect(detector.config.categories.map(({ name }) => name)).toEqual(["box", "disc"]);
    const again = await testDetector({ detector, test: train, workers: 0, out: join(folder, "again"), pictures: 0 });
    expect(again.scores).toEqual(result.scores);
    expect(again.results).toEqual(found);
  });

  it("stopped and resumed it ends with the same bits", async () => {
    const whole = await trainDetector(options("whole", { evaluateEvery: 1 }));
    let stop = true;
    const reporter = {
      line: () => {},
      progress: ({ step }: { step: number }) => {
        if (step === 2 && stop) process.emit("SIGTERM");
      },
    };
    const cut = await trainDetector({ ...options("cut", { evaluateEvery: 1 }), reporter });
    expect(cut).toMatchObject({ status: "interrupted", step: 2 });
    expect(cut.detector).toBeUndefined();
    stop = false;
    const rest = await trainDetector({ ...options("cut", { evaluateEvery: 1 }), resume: true });
    expect(rest).toMatchObject({ status: "done", step: 6, scores: whole.scores });
    expect(weightsOf(rest.detector!)).toEqual(weightsOf(whole.detector!));
    await expect(trainDetector({ ...options("cut", { evaluateEvery: 1, lr: 1 }), resume: true })).rejects.toThrow("detect.lr (0.002 then, 1 now)"); // biome-ignore format: one thought
  });

  it("a Swin, windows, large-scale jitter, several sizes, boxes alone, the heads' other forms, bfloat16", async () => {
    const once = { epochs: 1, pictures: 0 } as const;
    const swin = new SwinTransformer({ imageSize: 32, embedDim: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2], windowSize: 2 });
    const over = await trainDetector({ ...options("swin", { ...once, jitter: { range: [0.5, 1.5], size: 64 } }), encoder: swin });
    expect(loadDetector(over.detector!).model.backbone.body.encoder).toBeInstanceOf(SwinTransformer);
    const other: DetectionInput = {
      ...once,
      windowSize: 2,
      globalBlocks: [-1],
      shorter: [24, 32, 40],
      masks: false,
      boxHead: "4conv1fc",
      boxLoss: "l1",
      classAgnosticBoxes: true,
      schedule: "step",
      milestones: [1],
      onlyWithObjects: false,
    };
    const boxes = await trainDetector({ ...options("boxes", other), bf16: true });
    expect(Object.keys(boxes.scores).filter((name) => name.startsWith("mask"))).toEqual([]);
    expect(boxes.images.train).toBe(7);
    expect(loadDetector(boxes.detector!).config.encoder).toMatchObject({ windowSize: 2, globalBlocks: [-1] });
    for (const { scores } of [over, boxes]) expect(scores.boxAP).toBeGreaterThanOrEqual(0);
  });

  it("says in one sentence what does not fit", async () => {
    const fails = async (out: string, changes: DetectionInput, more: object = {}) => {
      const error = await trainDetector({ ...options(out, changes), ...more }).catch((error: Error) => error);
      expect((error as Error).name).toBe("EvaluateError");
      return (error as Error).message;
    };
    expect(await fails("f1", { batchSize: 9 })).toContain("A batch has 9 images, but");
    const grey = new VisionTransformer({ imageSize: 32, patchSize: 8, width: 24, heads: 3, depth: 4, channels: 1 });
    expect(await fails("f2", {}, { encoder: grey })).toContain("takes images of 1 channel(s); detection needs one of 3");
    const test = (await openDataset(await writeScenes(join(folder, "others"), 1, ["box", "ball"]))) as CocoDataset;
    expect(await fails("f3", {}, { test })).toContain('category 2 is 6 "ball"; expected 6 "disc"');
    const bare = JSON.parse(readFileSync(join(folder, "scenes", "annotations.json"), "utf8"));
    delete bare.annotations[1].segmentation;
    writeFileSync(join(folder, "bare.json"), JSON.stringify(bare));
    const boxes = (await openDataset(`coco:${join(folder, "bare.json")},${join(folder, "scenes")}`)) as CocoDataset;
    expect(await fails("f4", {}, { test: boxes })).toContain("Annotation 2 of coco:");
    expect(() => loadDetector(file)).toThrow("holds no detector; expected the export of `tessera evaluate detect`");
    expect(() => detectionSettingsOf({ sets: ["epoch=1", "boxHead=fc"] })).toThrow(/4conv1fc[\s\S]*epochs/);
  });
});

describe("tessera evaluate detect", { timeout: 240_000 }, () => {
  it("trains, is resumed after an interruption, and measures a trained detector", async () => {
    const out = join(folder, "cli");
    const sets = Object.entries(small).flatMap(([name, value]) => ["--set", `${name}=${JSON.stringify(value)}`]);
    const args = ["evaluate", "detect", "-w", file, "--data", spec, "--out", out, "--workers", "0", "--images", "4", ...sets];
    const stopped = await tessera(args, { onStderr: signalAt("step 1/") });
    // Four steps may be over before the signal arrives, and what follows them ends at once (null).
    expect([0, 130, null], stopped.stderr).toContain(stopped.code);
    const ended = await tessera([...args, "--resume", "--json"]);
    expect(ended.code, ended.stderr).toBe(0);
    const result = JSON.parse(ended.stdout);
    expect(result).toMatchObject({ status: "done", step: 4, preset: "small", images: { train: 4, test: 4 } });

    const again = await tessera(["evaluate", "detect", "-w", out, "--test", spec, "--images", "4", "--json", "-q"]);
    expect(again.code, again.stderr).toBe(0);
    expect(JSON.parse(again.stdout).scores).toEqual(result.scores);
    const table = await tessera(["evaluate", "detect", "-w", out, "--test", spec, "-q"]);
    expect(table.stdout).toMatch(/^detection by .*: 7 images of .*\n +AP +AP50 +AP75 .*\nbox .*\nmask .*\n$/);
  });

  it("refuses in one sentence", async () => {
    const refused = async (...args: string[]) => {
      const { code, stderr } = await tessera(["evaluate", "detect", ...args]);
      expect(code).not.toBe(0);
      expect(stderr.trim().split("\n")).toHaveLength(1);
      return stderr;
    };
    expect(await refused()).toContain("give the encoder to start from, or a trained detector, with --weights PATH");
    expect(await refused("-w", file)).toContain("say on which images: --data coco:ANNOTATIONS.json,IMAGES_DIR");
    expect(await refused("-w", file, "--data", "fashion-mnist")).toContain("which has no objects; expected coco:");
    expect(await refused("-w", join(folder, "cli"), "--test", spec, "--preset", "cae")).toContain("leave out --preset");
  });
});
