// `tessera evaluate finetune` as a user runs it: killed and resumed to the same bits, JSON, the file it leaves, and what it says of bad input.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VisionTransformer } from "../src/models/index.js";
import { manualSeed, readSafetensors, writeSafetensors } from "../src/torch/index.js";
import { signalAt, tessera, writeTinyFashionMnist } from "./cli-harness.js";

const dieAt = `--import=${new URL("./fixtures/die-at.mjs", import.meta.url).href}`;
let folder: string;
let weights: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-tune-"));
  const data = join(folder, "data");
  mkdirSync(data);
  writeTinyFashionMnist(data, { train: 120, test: 40 });
  manualSeed(1);
  const config = { imageSize: 28, patchSize: 7, width: 24, depth: 2, heads: 2, channels: 1 };
  weights = join(folder, "vit.safetensors");
  const metadata = { model: JSON.stringify(config), mean: "[0.286]", std: "[0.353]" };
  writeSafetensors(weights, new VisionTransformer(config).stateDict(), metadata);
});
afterAll(() => rmSync(folder, { recursive: true }));

const tune = (more: string[], env: Record<string, string> = {}) =>
  tessera(["evaluate", "finetune", "-w", weights, "-d", `fashion-mnist:${join(folder, "data")}`, "--workers", "0", ...more], {
    env,
  });
const lively = ["epochs=3", "batchSize=16", "baseLr=0.05", "warmupEpochs=1", "mixup=0.8", "cutmix=1", "erase=0.25", "ema=0.9"];
const sets = [...lively, "randAugment=rand-m9-mstd0.5-inc1", "dropPath=0.2", "evaluateEvery=1"].flatMap((each) => [
  "--set",
  each,
]);

describe("tessera evaluate finetune", { timeout: 240_000 }, () => {
  it("tells its result as JSON, and killed at many moments it leaves the same classifier, bit for bit", async () => {
    const whole = await tune([...sets, "-o", join(folder, "whole"), "--json"]);
    expect(whole.code, whole.stderr).toBe(0);
    const result = JSON.parse(whole.stdout);
    expect(result).toMatchObject({
      status: "done",
      preset: "small",
      fromScratch: false,
      step: 21,
      images: { train: 120, test: 40 },
      settings: { epochs: 3, mixup: 0.8, layerDecay: 0.75 },
    });
    expect(Object.keys(result.scores)).toEqual(["top1", "top5", "loss", "averagedTop1", "averagedTop5"]);
    expect(whole.stderr).toMatch(/after epoch 3: top1/);
    expect(result.classes).toHaveLength(10);
    const { counts } = JSON.parse(readFileSync(join(folder, "whole", "confusion.json"), "utf8")) as { counts: number[][] };
    expect(counts.flat().reduce((a, b) => a + b)).toBe(40);
    const report = (name: string) => readFileSync(join(folder, "whole", name));
    expect(JSON.parse(report("result.json").toString())).toEqual(result);
    expect(JSON.parse(report("classes.json").toString())).toMatchObject({
      images: 40,
      accuracy: result.scores.top1,
      confusion: counts,
    });
    for (const name of ["confusion.png", "classes.png"]) expect(report(name).subarray(1, 4).toString()).toBe("PNG");

    const out = join(folder, "killed");
    for (const [life, death] of ["append:2", "write:40", "any:30"].entries()) {
      const { code, stderr } = await tune([...sets, "-o", out, ...(life > 0 ? ["--resume"] : [])], {
        NODE_OPTIONS: dieAt,
        DIE_AT: death,
      });
      expect(code, `${death}: ${stderr}`).toBe(null);
    }
    const ended = await tune([...sets, "-o", out, "--resume", "--json"]);
    expect(ended.code, ended.stderr).toBe(0);
    for (const file of ["export/classifier.safetensors", "export/averaged/classifier.safetensors", "confusion.json"]) {
      const [a, b] = [folder, folder].map((each, i) => readFileSync(join(each, i === 0 ? "whole" : "killed", file)));
      expect(Buffer.compare(a!, b!), file).toBe(0);
    }
    expect(JSON.parse(ended.stdout).scores).toEqual(result.scores);
    const { tensors } = readSafetensors(join(out, "export", "classifier.safetensors"));
    expect(tensors.get("head.weight")!.shape).toEqual([10, 24]);
    // What is fine-tuned can be evaluated, and started from again.
    const knn = await tessera([
      "evaluate",
      "knn",
      "-w",
      out,
      "-d",
      `fashion-mnist:${join(folder, "data")}`,
      "--k",
      "5",
      "--json",
    ]);
    expect(knn.code, knn.stderr).toBe(0);
  });

  it("stops at Ctrl-C with a checkpoint and code 130, and goes on", async () => {
    const out = join(folder, "stopped");
    const long = ["--set", "epochs=200", "--set", "batchSize=16", "--seed", "3", "-o", out];
    const stopped = await tessera(
      ["evaluate", "finetune", "-w", weights, "-d", `fashion-mnist:${join(folder, "data")}`, "--workers", "0", ...long],
      { onStderr: signalAt("step 10/") },
    );
    expect(stopped.code, stopped.stderr).toBe(130);
    expect(stopped.stdout).toMatch(/interrupted after \d+ steps: go on with --resume --out/);
    const other = await tune(["--set", "epochs=2", "--set", "batchSize=16", "--seed", "3", "-o", out, "--resume"]);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/was begun with other settings: .*finetune\.epochs \(200 then, 2 now\)/);
  });

  it("says what is wrong in a sentence", async () => {
    const told = async (more: string[], code: number, sentence: RegExp) => {
      const result = await tune(["-o", join(folder, "no"), ...more]);
      expect(result.stderr).toMatch(sentence);
      expect(result.code).toBe(code);
      expect(result.stdout).toBe("");
      expect(result.stderr).not.toMatch(/internal|\n\s+at /);
    };
    await Promise.all([
      told(
        ["--set", "layrDecay=0.5", "--set", "dropPath=-1"],
        2,
        /the protocol of fine-tuning has 2 problems:.*layerDecay.*dropPath/s,
      ),
      told(["--size", "30"], 2, /multiple of the encoder's patch size, 7/),
      told(["--set", "batchSize=512"], 1, /A batch has 512 images, but .* has 120/),
      told(["--images", "10", "--preset", "mae"], 1, /A batch has 1024 images, but .* has 10/),
    ]);
    const none = await tessera(["evaluate", "finetune", "-d", "fashion-mnist"]);
    expect(none).toMatchObject({ code: 2, stdout: "" });
    expect(none.stderr).toContain("give the encoder with --weights PATH");
    const nowhere = await tessera(["evaluate", "finetune", "-w", weights, "--resume"]);
    expect(nowhere.stderr).toContain("--resume needs the folder of the training: --out DIR");
  });
});
