// Where a run starts: from its newest checkpoint or the one before a damaged one, with what is remembered; or from other weights.
import { copyFileSync, cpSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VisionTransformer } from "../src/models/index.js";
import { readSafetensors, tidy, writeSafetensors } from "../src/torch/index.js";
import { type PretrainOptions, pretrain, type RecipeInput, RunError, resolveRecipe, showRun } from "../src/train/index.js";
import { differingTensors, expectSameRun, filesOf, readLines, tinyDino, tinyRecipe, trainingGround } from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());
const at = (name: string) => join(ground.folder, name);
const named = (step: number) => `step-${String(step).padStart(9, "0")}`;
const checkpoint = (out: string, step: number) => join(out, "checkpoints", `${named(step)}.safetensors`);

const input = tinyRecipe(ground.data, {
  knn: { everyEpochs: 1, k: [5] },
  checkpoint: { everySteps: 5, keep: 2 },
  train: { epochs: 3, maxSteps: 30 },
});

/** Goes on with a run as it was, or with changes; tells what was said. */
async function go(
  out: string,
  options: Partial<PretrainOptions> = {},
  changes: (recipe: typeof input) => RecipeInput = (same) => same,
) {
  const said: string[] = [];
  const reporter = { progress() {}, line: (text: string) => void said.push(text) };
  const summary = await pretrain(resolveRecipe(changes(structuredClone(input))), { out, reporter, ...options });
  return { ...summary, said: said.join("\n") };
}
/** A copy of the whole run, cut back to a step in its third epoch. */
function cutBack(name: string): string {
  const out = at(name);
  cpSync(at("whole"), out, { recursive: true });
  rmSync(checkpoint(out, 30));
  return out;
}
beforeAll(async () => void (await go(at("whole"))));

describe("resuming", () => {
  it("remembers the best k-NN: a worse one does not take its place, and the best file stays", async () => {
    const out = cutBack("best");
    // A score that cannot be beaten, as if of an earlier epoch.
    const lines = readLines(out).map((line) => (line.kind === "knn" && line.step === 12 ? { ...line, top1: { 5: 100 } } : line));
    writeFileSync(join(out, "metrics.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    copyFileSync(checkpoint(out, 25), join(out, "checkpoints", "best.safetensors"));
    const best = readFileSync(join(out, "checkpoints", "best.safetensors"));
    const { knn } = await go(out, { resume: true });
    expect(
      readLines(out)
        .filter(({ kind }) => kind === "knn")
        .map(({ step }) => step),
    ).toEqual([12, 24, 30]);
    expect(knn![5]).toBeLessThan(100);
    expect(readFileSync(join(out, "checkpoints", "best.safetensors"))).toEqual(best);
  });

  it("falls back to the checkpoint before a damaged one, says so, and comes to the same end", async () => {
    const out = at("damaged");
    cpSync(at("whole"), out, { recursive: true });
    truncateSync(checkpoint(out, 30), 2000);
    const { said } = await go(out, { resume: true });
    expect(said).toMatch(
      new RegExp(
        `warning: \\S+${named(30)}\\.safetensors is not a sound safetensors file: .*; going on from step 25 instead, it is now ${named(30)}\\.damaged`,
      ),
    );
    expect(said).toContain("resuming at step 25");
    rmSync(join(out, "checkpoints", `${named(30)}.damaged`));
    expectSameRun(out, at("whole"));
  });

  it("refuses when no checkpoint can be read, and touches nothing", async () => {
    const out = at("all-damaged");
    cpSync(at("whole"), out, { recursive: true });
    for (const step of [25, 30]) writeFileSync(checkpoint(out, step), "not a checkpoint");
    const before = readFileSync(join(out, "metrics.jsonl"));
    await expect(go(out, { resume: true })).rejects.toThrow(
      /has no checkpoint that can be read: .*step-000000030.*; .*step-000000025.*\. Start the run again in another folder$/,
    );
    expect(readFileSync(join(out, "metrics.jsonl"))).toEqual(before);
    expect(filesOf(out)).toEqual(filesOf(at("whole")));
  });

  it("names what another run's checkpoint does not fit in", async () => {
    const out = cutBack("foreign");
    const other = tinyRecipe(ground.data, { train: { maxSteps: 1 }, optimizer: { warmupEpochs: 0 } });
    await pretrain(resolveRecipe({ ...other, model: { ...other.model, depth: 1 } }), { out: at("other") });
    copyFileSync(checkpoint(at("other"), 1), checkpoint(out, 29));
    await expect(go(out, { resume: true })).rejects.toThrow(
      /step-000000029\.safetensors does not fit this run: student\.backbone\.blocks\.1\.norm1\.weight is missing; .* more$/,
    );
  });

  it("refuses another recipe by the keys, but lets differ what does not change the result", async () => {
    const out = cutBack("recipe");
    const change = (recipe: typeof input): RecipeInput => ({
      ...recipe,
      optimizer: { ...recipe.optimizer, lr: 1e-3 },
      model: { ...recipe.model, dropPath: 0.1 },
    });
    await expect(go(out, { resume: true }, change)).rejects.toThrow(
      /was begun with another recipe; it differs in model\.dropPath, optimizer\.lr\. Resume with the same recipe, or start a new run/,
    );
    const neutral = await go(out, { resume: true }, (recipe) => ({
      ...recipe,
      name: "renamed",
      knn: { everyEpochs: 0 },
      pictures: { count: 2 },
      checkpoint: { everySteps: 7, keep: 1 },
      train: { ...recipe.train, workers: 1, prefetch: 1, logEvery: 3 },
    }));
    expect(neutral).toMatchObject({ status: "done", step: 30 });
    expect(differingTensors(checkpoint(out, 30), checkpoint(at("whole"), 30))).toEqual([]);
    expect(filesOf(join(out, "checkpoints"))).toEqual(["best.safetensors", `${named(30)}.safetensors`]);
  });

  it("warns of another libtorch", async () => {
    const out = cutBack("version");
    const { tensors, metadata } = readSafetensors(checkpoint(out, 25));
    writeSafetensors(checkpoint(out, 25), tensors, { ...metadata, libtorch: "1.0.0" });
    const { said } = await go(out, { resume: true });
    expect(said).toMatch(
      /warning: the run used libtorch 1\.0\.0, this is \d+\.\d+\.\d+\S*: numbers will not be the same to the last bit/,
    );
  });

  it("wants the folder of a run, and a whole recipe.json in it", async () => {
    await expect(go(at("nowhere"), { resume: true })).rejects.toThrow(
      /nowhere is not the folder of a run: it has no recipe\.json$/,
    );
    const out = cutBack("broken-recipe");
    for (const [text, what] of [
      ["{", "cannot be read: "],
      ["{}", "is not what a run writes: it has no recipe and versions"],
    ] as const) {
      writeFileSync(join(out, "recipe.json"), text);
      await expect(go(out, { resume: true })).rejects.toThrow(what);
    }
    await expect(go(at("whole"))).rejects.toThrow(/whole is not empty: choose another folder with --out, or go on/);
    await expect(go(at("x"), { resume: true, initFrom: "y" })).rejects.toThrow(/either resumed or started from weights/);
  });

  it("sweeps what a killed process was writing", async () => {
    const out = cutBack("swept");
    for (const name of [
      ".metrics.jsonl.99999999.1.tmp",
      `checkpoints/.${named(30)}.safetensors.99999999.2.tmp`,
      "export/.backbone.safetensors.99999999.3.tmp",
    ])
      writeFileSync(join(out, name), "half");
    await go(out, { resume: true });
    expectSameRun(out, at("whole"));
  });
});

describe("starting from weights", () => {
  const small = { train: { maxSteps: 1, epochs: 1 }, optimizer: { lr: 1e-12 } };
  const start = tinyDino(ground.data, small);
  /** The encoder after one step too small to see. */
  const startedFrom = async (name: string, initFrom: string, changes: Partial<RecipeInput> = {}) => {
    const out = at(name);
    await pretrain(resolveRecipe({ ...start, ...changes }), { out, initFrom });
    return join(out, "export", "backbone.safetensors");
  };
  const near = (a: string, b: string) =>
    tidy(() => {
      const other = readSafetensors(b).tensors;
      for (const [name, tensor] of readSafetensors(a).tensors) {
        expect(
          other
            .get(name)!
            .sub(tensor)
            .abs()
            .flatten()
            .toArray()
            .every((each) => each < 1e-6),
          name,
        ).toBe(true);
      }
    });

  it("takes an exported encoder and a checkpoint's, and says where it started", async () => {
    const exported = join(at("whole"), "export", "backbone.safetensors");
    near(await startedFrom("from-export", exported), exported);
    near(await startedFrom("from-checkpoint", checkpoint(at("whole"), 30)), exported);
    expect(JSON.parse(readFileSync(join(at("from-export"), "recipe.json"), "utf8")).initFrom).toBe(exported);
  });

  it("takes a file of timm's names made for another image size, with a classifier", async () => {
    const file = at("timm.safetensors");
    tidy(() => {
      const encoder = new VisionTransformer({ imageSize: 42, patchSize: 7, width: 32, depth: 2, heads: 2, channels: 1 });
      const tensors = new Map(encoder.stateDict());
      tensors.set("head.weight", tensors.get("norm.weight")!);
      writeSafetensors(file, tensors, { format: "pt" });
    });
    const out = await startedFrom("from-timm", file);
    tidy(() => {
      const [theirs, ours] = [readSafetensors(file).tensors, readSafetensors(out).tensors];
      expect(theirs.get("pos_embed")!.shape).toEqual([1, 37, 32]);
      expect(ours.get("pos_embed")!.shape).toEqual([1, 17, 32]);
      const name = "blocks.1.mlp.fc1.weight";
      expect(
        ours
          .get(name)!
          .sub(theirs.get(name)!)
          .abs()
          .flatten()
          .toArray()
          .every((each) => each < 1e-6),
      ).toBe(true);
    });
  });

  it("refuses what does not fit by name, and leaves no folder behind", async () => {
    const deeper = { model: { ...start.model, depth: 3 } };
    const exported = join(at("whole"), "export", "backbone.safetensors");
    await expect(startedFrom("too-deep", exported, deeper)).rejects.toThrow(/blocks\.2\.norm1\.weight/);
    await expect(startedFrom("no-file", at("none.safetensors"))).rejects.toThrow(/none\.safetensors cannot be read/);
    for (const name of ["too-deep", "no-file"]) expect(existsSync(at(name)), name).toBe(false);
  });

  it("does so again when it was killed before its first checkpoint", async () => {
    const exported = join(at("whole"), "export", "backbone.safetensors");
    const out = at("killed-early");
    await startedFrom("killed-early", exported);
    const end = readSafetensors(checkpoint(out, 1));
    rmSync(checkpoint(out, 1));
    await pretrain(resolveRecipe(start), { out, resume: true });
    writeSafetensors(at("before.safetensors"), end.tensors, end.metadata);
    expect(differingTensors(checkpoint(out, 1), at("before.safetensors"))).toEqual([]);
  });
});

describe("showing", () => {
  it("draws a run again from its newest checkpoint or a given one, and wants one", async () => {
    const out = cutBack("shown");
    expect((await showRun(out)).every((path) => /step-000025-\w+\.png$/.test(path) && existsSync(path))).toBe(true);
    expect((await showRun(out, { checkpoint: checkpoint(at("whole"), 30) }))[0]).toMatch(/step-000030-/);
    rmSync(join(out, "checkpoints"), { recursive: true });
    await expect(showRun(out)).rejects.toThrow(RunError);
  });
});
