// "Stopped and resumed" equals "never stopped", to the last bit: after kill -9 at any moment, after Ctrl-C, with other numbers of workers.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type PretrainOptions, pretrain, resolveRecipe } from "../src/train/index.js";
import { signalAt, tessera } from "./cli-harness.js";
import { expectSameRun, filesOf, readLines, tinyRecipe, trainingGround } from "./train-harness.js";

const dieAt = `--import=${new URL("./fixtures/die-at.mjs", import.meta.url).href}`;
const ground = trainingGround();
afterAll(() => ground.remove());

const everything = {
  knn: { everyEpochs: 1, k: [5] },
  pictures: { everyEpochs: 1, count: 2 },
  checkpoint: { everySteps: 2 },
};
const precisions = ["float32", "bfloat16"] as const;
type Precision = (typeof precisions)[number];
const recipeOf = (precision: Precision) => tinyRecipe(ground.data, { ...everything, train: { epochs: 2, precision } });
const recipeFile = (precision: Precision) => join(ground.folder, `${precision}.json`);
/** Never stopped, in this process. */
const whole = (precision: Precision) => join(ground.folder, `whole-${precision}`);

beforeAll(async () => {
  for (const precision of precisions) {
    const recipe = recipeOf(precision);
    writeFileSync(recipeFile(precision), JSON.stringify({ name: "tiny", ...recipe }));
    await pretrain(resolveRecipe({ name: "tiny", ...recipe }), { out: whole(precision) });
  }
});

/** Starts a run, or goes on with it. */
function start(out: string, precision: Precision, how: Parameters<typeof tessera>[1] & { workers?: number } = {}) {
  const { workers = 0, ...rest } = how;
  const recipe = existsSync(join(out, "recipe.json")) ? ["--resume"] : [recipeFile(precision)];
  return tessera(["pretrain", ...recipe, "--out", out, "--set", `train.workers=${workers}`], rest);
}

describe.concurrent("kill -9", { timeout: 240_000 }, () => {
  const soon = () => `time:${Math.ceil(150 * Math.random())}`;
  // Of the calls that a life makes: half a line of the log, half a checkpoint, a checkpoint before its sync and before its rename, the
  // link to the best one, the removal of an old one, and some in between.
  const deaths = {
    float32: ["append:3", "write:9", "sync:7", "rename:4", soon(), "link:1", "any:31", "remove:4"],
    bfloat16: [soon(), "any:29", "write:170", "append:4", "any:50", "link:1", "rename:2", soon()],
  };
  it.each(precisions)("at many moments, %s, with 0 and 2 workers in turn", async (precision) => {
    const out = join(ground.folder, `killed-${precision}`);
    let halfWritten = 0;
    const lives: string[] = [];
    for (const [life, death] of deaths[precision].entries()) {
      const env = { NODE_OPTIONS: dieAt, DIE_AT: death };
      const { code, stderr } = await start(out, precision, { workers: life % 2 === 0 ? 0 : 2, env });
      lives.push(`${death}: step ${/.*step (\d+)/s.exec(stderr)?.[1]}`);
      expect(code, `${lives.join("; ")} ended by itself: ${stderr}`).toBe(null);
      halfWritten += filesOf(out).filter((name) => name.endsWith(".tmp")).length;
    }
    expect(halfWritten).toBeGreaterThan(1);
    const { code, stderr } = await start(out, precision, { workers: 2 });
    expect(code, stderr).toBe(0);
    if (process.env.SHOW) console.log(lives.join("; "));
    expectSameRun(out, whole(precision));
  });
});

describe.concurrent("Ctrl-C", { timeout: 240_000 }, () => {
  it("leaves a checkpoint, says how to go on, and the run that goes on is the same", async () => {
    const out = join(ground.folder, "interrupted");
    const first = await start(out, "float32", { onStderr: signalAt("step 3/") });
    expect(first.code, first.stderr).toBe(130);
    const step = Number(/stopped at step (\d+); go on with --resume --out/.exec(first.stderr)?.[1]);
    expect(filesOf(out)).toContain(`checkpoints/step-${String(step).padStart(9, "0")}.safetensors`);
    expect(first.stderr).toContain("SIGINT: finishing this step and writing a checkpoint (again to quit at once)");
    const second = await start(out, "float32", { workers: 2, onStderr: signalAt("step 12/", "SIGTERM") });
    expect(second.code, second.stderr).toBe(130);
    const last = await start(out, "float32");
    expect(last.code, last.stderr).toBe(0);
    expectSameRun(out, whole("float32"));
  });
});

describe("a stop at a certain step", () => {
  /** Goes on with a run, or begins it, until the signal at a step; tells what it said. */
  async function until(step: number, out: string, options: Partial<PretrainOptions> = {}) {
    const said: string[] = [];
    const reporter = {
      progress: (at: { step: number }) => void (at.step === step && process.emit("SIGINT")),
      line: (text: string) => void said.push(text),
    };
    const resume = existsSync(join(out, "recipe.json"));
    const summary = await pretrain(resolveRecipe({ name: "tiny", ...recipeOf("float32") }), {
      out,
      resume,
      reporter,
      ...options,
    });
    return { ...summary, said: said.join("\n") };
  }

  it("first, at the end of an epoch, in the middle of one, last and after the end: always the same run", async () => {
    const out = join(ground.folder, "stops");
    for (const step of [1, 12, 17, 24]) {
      expect(await until(step, out)).toMatchObject({ status: "interrupted", step });
      expect(filesOf(out)).toContain(`checkpoints/step-${String(step).padStart(9, "0")}.safetensors`);
    }
    // After the last step the evaluation was still to do.
    expect(readLines(out).at(-1)).toMatchObject({ kind: "step", step: 24 });
    expect(await until(0, out)).toMatchObject({ status: "done", step: 24, epoch: 1 });
    expectSameRun(out, whole("float32"));
    const again = await until(0, out);
    expect(again).toMatchObject({ status: "done", step: 24, epoch: 1, knn: { 5: expect.any(Number) } });
    expect(again.said).toContain("resuming at step 24");
    expect(again.said).toContain("all its steps are done, there is nothing left to train");
    expectSameRun(out, whole("float32"));
  });
});
