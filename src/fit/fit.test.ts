// The supervised loop: what it trains is the same however often it was stopped.
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Dropout, Linear, Module } from "../nn/index.js";
import { AdamW, decayGroups, Ema, schedule } from "../optim/index.js";
import { fromTypedArray, manualSeed, type Tensor, tidy } from "../torch/index.js";
import { listCheckpoints } from "./checkpoint.js";
import { NonFiniteError, RunError } from "./errors.js";
import { type FitTask, fitModel } from "./fit.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-fit-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

class Net extends Module {
  readonly fc = new Linear(4, 3);
  readonly drop = new Dropout(0.3);
  forward(x: Tensor): Tensor {
    return this.drop.call(this.fc.call(x)) as Tensor;
  }
}

/** 3 epochs of 5 steps; `onStep` is told of each. */
function task(changes: Partial<FitTask<Float32Array>> = {}, onStep: (step: number) => void = () => {}) {
  manualSeed(3);
  const model = new Net();
  const average = new Net();
  const lr = schedule({ kind: "cosine", from: 0.05, to: 0 }, { steps: 15, stepsPerEpoch: 5 });
  const seen: number[] = [];
  const evaluations: number[] = [];
  const whole: FitTask<Float32Array> = {
    model,
    optimizer: new AdamW(decayGroups(model), { lr: 0.05 }),
    lr,
    epochs: 3,
    stepsPerEpoch: 5,
    batchSize: 2,
    async *batches(epoch, fromStep) {
      for (let i = fromStep; i < 5; i++) {
        seen.push(epoch * 5 + i);
        yield Float32Array.from({ length: 8 }, (_, k) => Math.sin(epoch * 50 + i * 10 + k));
      }
    },
    step(batch, { step }) {
      onStep(step);
      const loss = model
        .call(fromTypedArray(batch, [2, 4]))
        .pow(2)
        .mean();
      return { loss, terms: { square: loss } };
    },
    ema: new Ema(average, model).start(),
    emaDecay: 0.9,
    clip: 1,
    evaluate: async (epoch) => {
      evaluations.push(epoch);
      return { training: Number(model.training), norm: tidy(() => model.fc.weight.norm().item()) };
    },
    evaluateEvery: 2,
    ...changes,
  };
  const weights = () => [model, average].flatMap((each) => [...each.stateDict().values()].flatMap((tensor) => tensor.toArray()));
  return { task: whole, seen, evaluations, weights };
}
const options = { settings: { lr: 0.05, data: { train: "x" } } };

describe("fitModel", () => {
  it("trains, evaluates when it is due, and logs", async () => {
    const { task: whole, seen, evaluations } = task();
    const out = join(folder, "a");
    const result = await fitModel(whole, { out, ...options });
    expect(result).toMatchObject({ status: "done", step: 15, epoch: 2, scores: { training: 0 } });
    expect(seen).toEqual(Array.from({ length: 15 }, (_, i) => i));
    expect(evaluations).toEqual([1, 2]);
    expect(readdirSync(out).sort()).toEqual(["checkpoints", "images", "metrics.jsonl", "settings.json"]);
    expect(listCheckpoints(join(out, "checkpoints")).map(({ step }) => step)).toEqual([15]);
  });

  it.each([1, 5, 7, 10, 15])("stopped in step %i and resumed ends as if it had never stopped", async (last) => {
    const straight = task();
    await fitModel(straight.task, { out: join(folder, "straight"), ...options });
    const out = join(folder, "stopped");
    const first = task({}, (step) => step + 1 === last && process.emit("SIGTERM"));
    expect(await fitModel(first.task, { out, ...options })).toMatchObject({ status: "interrupted", step: last });
    manualSeed(99);
    const second = task();
    expect(await fitModel(second.task, { out, resume: true, ...options })).toMatchObject({ status: "done", step: 15 });
    expect(second.seen[0] ?? 15).toBe(last);
    expect(second.weights()).toEqual(straight.weights());
    expect([...first.evaluations, ...second.evaluations]).toEqual([1, 2]);
  });

  it("refuses a folder that is in the way, other settings, and what is no training", async () => {
    const out = join(folder, "a");
    await fitModel(task().task, { out, ...options });
    await expect(fitModel(task().task, { out, ...options })).rejects.toThrow(
      /already holds a training: choose another .* --resume$/,
    );
    const others = { settings: { lr: 0.1, data: { train: "x" } } };
    await expect(fitModel(task().task, { out, resume: true, ...others })).rejects.toThrow(
      `${out} was begun with other settings: lr (0.05 then, 0.1 now). Go on with the same, or choose another folder with --out`,
    );
    writeFileSync(join(folder, "file"), "");
    await expect(fitModel(task().task, { out: folder, ...options })).rejects.toThrow(/is not empty/);
    await expect(fitModel(task().task, { out: join(folder, "none"), resume: true, ...options })).rejects.toThrow(RunError);
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  it("ends at a loss that is not finite, and says of which term and step", async () => {
    const broken = task();
    const step = broken.task.step.bind(broken.task);
    const failing: FitTask<Float32Array> = {
      ...broken.task,
      step(batch, at) {
        const { loss } = step(batch, at);
        const bad = at.step === 6 ? loss.mul(Number.NaN) : loss;
        return { loss: bad, terms: { mask: bad } };
      },
    };
    const run = fitModel(failing, { out: join(folder, "a"), ...options });
    await expect(run).rejects.toThrow(NonFiniteError);
    await expect(run).rejects.toThrow(/^the loss term "mask" is NaN at step 7; nothing was updated/);
  });
});
