// The command line's real work, small: train, interrupt, resume, evaluate, show, demo.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { signalAt, tessera, writeTinyFashionMnist } from "./cli-harness.js";

let folder: string;
let recipe: string;
let env: Record<string, string>;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-run-"));
  mkdirSync(join(folder, "data"));
  writeTinyFashionMnist(join(folder, "data"));
  env = { FASHION_MNIST: join(folder, "data") };
  recipe = join(folder, "tiny.ts");
  writeFileSync(
    recipe,
    `import { defineRecipe } from "tessera";
export default defineRecipe({
  data: { train: "fashion-mnist" },
  model: { patchSize: 14, width: 32, depth: 2 },
  method: {
    name: "mst",
    decoderWidth: 16,
    decoderNarrowest: 8,
    dino: {
      crops: { globalSize: 28, locals: 0, blur: [0, 0, 0] },
      head: { outFeatures: 16, hidden: 32, bottleneck: 8 },
    },
  },
  optimizer: { warmupEpochs: 0 },
  train: { epochs: 2, batchSize: 16, workers: 0, logEvery: 2 },
});
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

const slow = { timeout: 240_000 };

/** A probe of a run that is killed goes on as if nothing had been, with the same options only. */
async function killedAndResumed(out: string, env: Record<string, string>, report: readonly string[]): Promise<void> {
  const killed = join(out, "killed");
  const long = ["evaluate", "linear", "-w", out, "--epochs", "200", "--lr", "0.1,1", "-o", killed, "--json"];
  const died = await tessera(long, { env, onStderr: signalAt("training: ", "SIGKILL") });
  expect(died).toMatchObject({ code: null, stdout: "" });
  expect(readdirSync(killed)).toEqual(["unfinished"]);
  const again = await tessera(long, { env });
  expect(again.code).toBe(1);
  expect(again.stderr).toMatch(/killed\/unfinished already holds .*--resume\n$/);
  const other = await tessera([...long, "--seed", "1", "--resume"], { env });
  expect(other.code).toBe(1);
  expect(other.stderr).toMatch(/was begun with other settings: seed \(not given then, 1 now\)/);
  const finished = await tessera([...long, "--resume"], { env });
  expect(finished.code, finished.stderr).toBe(0);
  expect(finished.stderr).not.toMatch(/features: /); // they were all there
  const { seconds: _, ...straight } = JSON.parse((await tessera([...long.slice(0, -3), "--json"], { env })).stdout);
  expect(JSON.parse(finished.stdout)).toMatchObject(straight);
  expect(readdirSync(killed).sort()).toEqual(report);
  const nowhere = await tessera(["evaluate", "knn", "-w", out, "--resume"], { env });
  expect(nowhere).toMatchObject({ code: 2, stderr: "tessera: --resume needs the folder of the evaluation: --out DIR\n" });
}

describe("a run", slow, () => {
  it("trains into a folder named after the recipe, and prints one JSON object", async () => {
    const { code, stdout, stderr } = await tessera(["pretrain", recipe, "--json", "--set", "train.epochs=1"], {
      env,
      cwd: folder,
    });
    expect(code, stderr).toBe(0);
    const summary = JSON.parse(stdout) as { out: string; status: string; step: number; export: string };
    expect(summary).toMatchObject({ status: "done", step: 6 });
    expect(summary.out).toMatch(/^runs\/tiny-\d{8}-\d{6}$/);
    expect(existsSync(join(folder, summary.export))).toBe(true);
    const saved = JSON.parse(readFileSync(join(folder, summary.out, "recipe.json"), "utf8"));
    expect(saved.recipe).toMatchObject({ name: "tiny", train: { epochs: 1 }, data: { channels: 1, mean: [0.286] } });
    expect(stderr).toContain("train       epochs=1 batchSize=16");
    expect(stderr).toMatch(/step 6\/6/);
  });

  it("is evaluated, resumed, refused and used to start from", async () => {
    const out = join(folder, "one");
    const trained = await tessera(["pretrain", recipe, "--out", out, "--quiet"], { env });
    expect(trained.code, trained.stderr).toBe(0);
    expect(trained.stderr).toBe("");
    expect(trained.stdout).toMatch(
      /^run +\S+one\ndone +step 12, epoch 2, \d+ s\nexported +\S+backbone\.safetensors\npictures +\S+\.png\n/,
    );

    const again = await tessera(["pretrain", recipe, "--out", out], { env });
    expect(again).toMatchObject({ code: 2, stdout: "" });
    expect(again.stderr).toMatch(/already holds a run: go on with it by --resume, or choose another folder/);

    const knn = await tessera(["evaluate", "knn", "-w", out, "--k", "1,5", "--readout", "class,mean", "--json"], { env });
    expect(knn.code, knn.stderr).toBe(0);
    const result = JSON.parse(knn.stdout);
    expect(result).toMatchObject({ bank: 96, queries: 32, data: { train: "fashion-mnist", size: 28 } });
    expect(Object.keys(result.readouts)).toEqual(["class", "mean"]);
    for (const { top1, top5 } of Object.values(result.readouts) as {
      top1: Record<string, number>;
      top5: Record<string, number>;
    }[]) {
      expect(Object.keys(top1)).toEqual(["1", "5"]);
      expect(top5["5"]!).toBeGreaterThanOrEqual(top1["5"]!);
    }
    const file = join(out, "export", "backbone.safetensors");
    const table = await tessera(["evaluate", "knn", "-w", file, "--data", "fashion-mnist", "--k", "5", "--bank", "50", "-q"], {
      env,
    });
    expect(table.code, table.stderr).toBe(0);
    expect(table.stdout).toMatch(
      /^k-NN of .*: 32 images of .* by 50 of .*\nread-out +k +top-1 +top-5\nclass +5 +\d+\.\d\d % +\d+\.\d\d %\n$/,
    );
    const linear = await tessera(["evaluate", "linear", "-w", out, "--epochs", "3", "--batch", "16", "--lr", "0.1,1", "--json"], {
      env,
    });
    expect(linear.code, linear.stderr).toBe(0);
    const probe = JSON.parse(linear.stdout);
    expect(probe).toMatchObject({
      images: { train: 96, test: 32 },
      classes: 10,
      width: 32,
      plan: { readout: "class", epochs: 3 },
    });
    expect(probe.grid.map(({ baseLr }: { baseLr: number }) => baseLr)).toEqual([0.1, 1]);
    expect(linear.stderr).toContain("training: 96 of 288, epoch 1 of 3");
    const report = ["classes.json", "classes.png", "confusion.png", "result.json"];
    const look = join(out, "attentive");
    const attentive = await tessera(
      ["evaluate", "attentive", "-w", out, "--epochs", "2", "--batch", "16", "--attention-heads", "4", "-o", look, "--json"],
      { env },
    );
    expect(attentive.code, attentive.stderr).toBe(0);
    const tokens = JSON.parse(attentive.stdout);
    expect(tokens).toMatchObject({
      images: { train: 96, test: 32 },
      classes: 10,
      tokens: 5,
      width: 32,
      plan: { preset: "grid", heads: 4, epochs: 2, lr: [0.1, 0.4, 1.6, 6.4] },
    });
    expect(tokens.confusion).toBeUndefined();
    expect(readdirSync(look).sort()).toEqual(report);
    expect(JSON.parse(readFileSync(join(look, "result.json"), "utf8"))).toEqual(tokens);
    expect(JSON.parse(readFileSync(join(look, "classes.json"), "utf8"))).toMatchObject({
      title: expect.stringMatching(/^attentive probe of /),
      images: 32,
      accuracy: tokens.best.top1,
    });
    const refused = await tessera(["evaluate", "attentive", "-w", out, "--attention-heads", "5"], { env });
    expect(refused).toMatchObject({
      code: 1,
      stderr: "tessera: The attentive probe has 5 heads; expected a number that divides the encoder's width, 32.\n",
    });
    const nearest = join(out, "nearest");
    const written = await tessera(["evaluate", "knn", "-w", out, "--k", "1,5", "--readout", "class,mean", "-o", nearest], {
      env,
    });
    expect(written.stderr).toContain(`written to ${nearest}: result.json, classes.json, confusion.png, classes.png\n`);
    expect(readdirSync(nearest).sort()).toEqual(report);
    const { readouts } = JSON.parse(readFileSync(join(nearest, "result.json"), "utf8"));
    expect(readouts).toEqual(result.readouts);
    const { title, accuracy } = JSON.parse(readFileSync(join(nearest, "classes.json"), "utf8"));
    const [, readout, k] = /^k-NN \((\w+), k (\d)\) of /.exec(title)!;
    expect(accuracy).toBeCloseTo(readouts[readout!].top1[k!], 12);
    await killedAndResumed(out, env, report);
    const inFile = await tessera(["evaluate", "knn", "-w", out, "-o", join(nearest, "result.json")], { env });
    expect(inFile.code).toBe(2);
    expect(inFile.stderr).toMatch(/^tessera: --out is .*result\.json, which cannot be a folder: /);
    const pixels = await tessera(
      [
        "evaluate",
        "linear",
        "--pixels",
        "--data",
        "fashion-mnist",
        "--size",
        "28",
        "--preset",
        "moco-v3",
        "--epochs",
        "2",
        "--images",
        "50",
        "-q",
      ],
      { env },
    );
    expect(pixels).toMatchObject({ code: 0, stderr: "" });
    expect(pixels.stdout).toMatch(
      /^linear probe of the images' pixels: 32 images of .*, learnt from 50 of .*\nprotocol moco-v3: read-out pixels \(784 numbers\), SGD, 2 epochs of batches of 50\nbase lr +lr +top-1 +top-5 +loss +epoch\n3 +0\.586 .* best\n$/,
    );
    const size = await tessera(["evaluate", "knn", "-w", out, "--size", "30"], { env });
    expect(size).toMatchObject({
      code: 2,
      stderr: "tessera: --size is 30; expected a multiple of the encoder's patch size, 14\n",
    });

    const shown = await tessera(["show", out, "--json"], { env });
    expect(shown.code, shown.stderr).toBe(0);
    const { pictures } = JSON.parse(shown.stdout) as { pictures: string[] };
    expect(pictures.length).toBeGreaterThan(0);
    for (const picture of pictures) expect(existsSync(picture), picture).toBe(true);

    const resumed = await tessera(["pretrain", "--resume", "--out", out, "--json", "-q"], { env });
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ status: "done", step: 12 });
    const other = await tessera(["pretrain", recipe, "--resume", "--out", out, "-s", "optimizer.lr=1"], { env });
    expect(other.code).not.toBe(0);
    expect(other.stderr).toContain("it differs in optimizer.lr");

    const started = await tessera(
      ["pretrain", recipe, "--init-from", out, "--out", join(folder, "two"), "-q", "-s", "train.maxSteps=1"],
      { env },
    );
    expect(started.code, started.stderr).toBe(0);
  });

  it("ends on Ctrl-C with a checkpoint and code 130, and goes on from there", async () => {
    const out = join(folder, "stopped");
    let sent = false;
    const stopped = await tessera(["pretrain", recipe, "--out", out, "--json", "-s", "train.epochs=5000"], {
      env,
      onStderr: (text, kill) => {
        if (sent || !text.includes("step 2/")) return;
        sent = true;
        kill("SIGINT");
      },
    });
    expect(stopped.code, stopped.stderr).toBe(130);
    const { status, step } = JSON.parse(stopped.stdout) as { status: string; step: number };
    expect(status).toBe("interrupted");
    expect(existsSync(join(out, "checkpoints", `step-${String(step).padStart(9, "0")}.safetensors`))).toBe(true);
    let told = "";
    const resumed = await tessera(["pretrain", "--resume", "--out", out], {
      env,
      onStderr: (text, kill) => {
        if (!told && text.includes("images/s")) kill("SIGTERM");
        if (text.includes("images/s")) told = text;
      },
    });
    expect(resumed.code, resumed.stderr).toBe(130);
    expect(told).toContain(`step ${step}`);
  });
});

describe("demo", slow, () => {
  it("compares raw pixels, the random encoder and the pre-trained one, and replaces a former run", async () => {
    const out = join(folder, "demo");
    const args = [
      "demo",
      "--out",
      out,
      "-s",
      "train.maxSteps=2",
      "-s",
      "train.batchSize=16",
      "-s",
      "optimizer.warmupEpochs=0",
      "-s",
      "knn.k=[5]",
    ];
    const json = await tessera([...args, "--json"], { env });
    expect(json.code, json.stderr).toBe(0);
    const result = JSON.parse(json.stdout);
    expect(result).toMatchObject({ method: "mst", out, steps: 2, k: 5, bank: 96, queries: 32 });
    for (const share of Object.values(result.top1)) expect(share).toBeGreaterThanOrEqual(0);
    expect(result.top1.pixels).toBeGreaterThan(0.9);

    const plain = await tessera([...args, "--quiet"], { env });
    expect(plain.code, plain.stderr).toBe(0);
    expect(plain.stdout).toMatch(/raw pixels +\d+\.\d %\n +random encoder +\d+\.\d %\n +pre-trained encoder +\d+\.\d %\n/);
    expect(plain.stdout).toContain(`run folder  ${out}`);
  });
});
