// What a run leaves behind when it cannot go on: a full disk, numbers that are not finite, damaged checkpoints.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { defineMethod, Mst, mstOptions, registerMethod, type StepResult } from "../src/methods/index.js";
import { readSafetensors, tidy } from "../src/torch/index.js";
import { createMethod, listCheckpoints, NonFiniteError, pretrain, replayCapture, resolveRecipe } from "../src/train/index.js";
import { bin } from "./cli-harness.js";
import { differingTensors, expectSameRun, filesOf, readLines, tinyRecipe, trainingGround } from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());
const at = (name: string) => join(ground.folder, name);

describe("a full disk", () => {
  const recipe = resolveRecipe(tinyRecipe(ground.data, { checkpoint: { everySteps: 3 }, train: { epochs: 1 } }));
  const file = at("recipe.json");
  writeFileSync(file, JSON.stringify(recipe));
  beforeAll(async () => void (await pretrain(recipe, { out: at("whole") })));

  /** The command line in a shell, after `before`. Whatever it writes goes through pipes. */
  const run = (before: string, ...args: string[]) =>
    spawnSync("bash", ["-c", `${before}exec "$@"`, "bash", process.execPath, bin, "pretrain", ...args, "-q"], {
      encoding: "utf8",
    });

  /** A run's checkpoint at step 3, whole and alone. */
  async function begun(out: string): Promise<string> {
    const reporter = { progress: ({ step }: { step: number }) => void (step === 3 && process.emit("SIGINT")), line() {} };
    expect(await pretrain(recipe, { out, reporter })).toMatchObject({ status: "interrupted", step: 3 });
    return out;
  }

  it("at a checkpoint: the last good one stays, nothing half-written, one sentence, exit code 1; with room it goes on", async () => {
    const out = await begun(at("quota"));
    // A limit on the size of any file, in units of 1024 bytes, is a quota that needs no rights.
    const full = run("ulimit -f 300; ", "--resume", "--out", out);
    expect(full.status, full.stderr).toBe(1);
    expect(full.stderr).toMatch(
      /^tessera: the checkpoint of step 6 was not written: \S+step-000000006\.safetensors cannot be written: EFBIG: file too large, write\. It takes 0\.\d MB; make room for it, then go on from step 3 with --resume\n$/,
    );
    expect(filesOf(join(out, "checkpoints"))).toEqual(["step-000000003.safetensors"]);
    const free = run("", "--resume", "--out", out);
    expect(free.status, free.stderr).toBe(0);
    expectSameRun(out, at("whole"));
  });

  it("at the log: the same", async () => {
    const out = await begun(at("log"));
    const full = run("ulimit -f 2; ", "--resume", "--out", out);
    expect(full.status, full.stderr).toBe(1);
    expect(full.stderr).toMatch(
      /^tessera: the log of step \d was not written: \S+metrics\.jsonl: EFBIG: file too large, write\. Make room/,
    );
    const free = run("", "--resume", "--out", out);
    expect(free.status, free.stderr).toBe(0);
    expectSameRun(out, at("whole"));
  });

  const small = at("small");
  const mount = (options: string) => execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", small], { stdio: "pipe" });
  const mayMount = (() => {
    try {
      mkdirSync(small);
      mount("size=1m");
      return true;
    } catch {
      return false; // Only root may; the quota above says the same.
    }
  })();
  afterAll(() => {
    if (mayMount) execFileSync("umount", [small]);
  });
  it.runIf(mayMount)("on a small file system", async () => {
    const out = join(small, "run");
    const full = run("", file, "--out", out);
    expect(full.status, full.stderr).toBe(1);
    expect(full.stderr).toMatch(
      /^tessera: the checkpoint of step 6 was not written: .*ENOSPC: no space left on device.*go on from step 3 with --resume\n$/,
    );
    expect(filesOf(join(out, "checkpoints"))).toEqual(["step-000000003.safetensors"]);
    mount("remount,size=16m");
    const free = run("", "--resume", "--out", out);
    expect(free.status, free.stderr).toBe(0);
    expectSameRun(out, at("whole"));
  });
});

describe("numbers that are not finite", () => {
  const breaks = {
    /** A term of the loss becomes NaN. */
    term: (_: Mst, { loss, terms }: StepResult): StepResult => {
      const restore = terms.restore!.mul(Number.NaN);
      return { loss: loss.add(restore), terms: { ...terms, restore } };
    },
    /** The loss is finite, but the slope of a square root at 0 is not. */
    gradient: ({ trainable: { maskToken } }: Mst, { loss, ...rest }: StepResult): StepResult => ({
      ...rest,
      loss: loss.add(maskToken.sub(maskToken.detach()).sqrt().sum()),
    }),
  };
  let calls = 0;
  let lastCe = 0;
  let live: Mst | undefined;
  let breaksAt = { step: 5, batch: 1 };
  let how: keyof typeof breaks = "term";

  class Broken extends Mst {
    override step(...[batch, progress]: Parameters<Mst["step"]>): StepResult {
      const result = super.step(batch, progress);
      if (progress.step + 1 !== breaksAt.step) return result;
      calls += 1;
      if (calls !== breaksAt.batch) return result;
      lastCe = result.terms.ce!.item();
      return breaks[how](this, result);
    }
  }
  registerMethod(
    defineMethod({
      name: "broken",
      options: mstOptions,
      create: (options, context) => {
        live = new Broken(options, context);
        return live;
      },
    }),
  );

  const recipe = (precision: "float32" | "bfloat16", accumulate: number, clip = "per-tensor") => {
    const base = tinyRecipe(ground.data);
    return resolveRecipe({
      ...base,
      method: { ...base.method, name: "broken" },
      optimizer: { ...base.optimizer, clip: { kind: clip } },
      checkpoint: { everySteps: 1 },
      train: { ...base.train, precision, accumulate, logEvery: 100 },
    });
  };

  it.each([
    ["term", "float32", 1, 1, "per-tensor", 'the loss term "restore" is NaN at step 5; nothing was updated'],
    ["term", "bfloat16", 2, 2, "per-tensor", 'the loss term "restore" is NaN at step 5; nothing was updated'],
    ["gradient", "float32", 1, 1, "global", "the gradient of mask_token is not finite at step 5; nothing was updated"],
    ["gradient", "bfloat16", 2, 1, "per-tensor", "the gradient of mask_token is not finite at step 5; nothing was updated"],
  ] as const)("%s, %s, %i batches, in batch %i, clip %s: %s", async (kind, precision, accumulate, batch, clip, message) => {
    const out = at(`broken-${kind}-${precision}`);
    [how, breaksAt, calls] = [kind, { step: 5, batch }, 0];
    const resolved = recipe(precision, accumulate, clip);
    const error: unknown = await pretrain(resolved, { out }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(NonFiniteError);
    const capture = join(out, "captures", "step-5.safetensors");
    const checkpoint = listCheckpoints(join(out, "checkpoints")).at(-1)!;
    expect(checkpoint.step).toBe(4);
    expect((error as Error).message).toBe(
      `${message} and ${checkpoint.path} is the last good checkpoint. ${capture} holds the batch and the weights to replay it`,
    );

    tidy(() => {
      const saved = readSafetensors(checkpoint.path).tensors;
      const names = [...live!.state()].flatMap(([name, tensor]) => (tensor.equal(saved.get(`method.${name}`)!) ? [] : [name]));
      expect(
        names.filter((name) => !/running_|num_batches/.test(name)),
        "updated",
      ).toEqual([]);
      // Running statistics moved with the forward pass; the capture has them as they were before it.
      expect(names).not.toEqual([]);
    });
    const apart = differingTensors(capture, checkpoint.path).filter((name) => name.startsWith("method."));
    if (batch === 1) expect(apart).toEqual([]);
    else expect(apart.every((name) => /running_|num_batches/.test(name))).toBe(true);

    // The same step again, in a new process's place: another method object, another state of the generator.
    const ce = lastCe;
    calls = batch - 1;
    const method = createMethod(resolved);
    tidy(() => {
      const { result, at: where } = replayCapture(capture, method);
      expect(where).toMatchObject({ step: 4, totalSteps: resolved.train.epochs * Math.floor(25 / accumulate), report: true });
      expect(result.terms.ce!.item()).toBe(ce);
      if (kind === "term") expect(result.terms.restore!.item()).toBeNaN();
      else {
        expect(result.loss.item()).toBeTypeOf("number");
        result.loss.backward();
        expect(method.trainable.stateDict().get("mask_token")!.grad!.isFinite().all().item()).toBe(0);
      }
    });
  });

  it("goes on from the last good checkpoint", async () => {
    const out = at("broken-term-float32");
    breaksAt = { step: -1, batch: 0 };
    expect(await pretrain(recipe("float32", 1), { out, resume: true })).toMatchObject({ status: "done", step: 50 });
    expect(readLines(out).map(({ step }) => step)).toEqual([1, 50]);
  });
});
