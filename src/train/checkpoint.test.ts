// Checkpoint files: which are kept, which is taken, and what is said of one that does not fit.
import { existsSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkpointPath, linkCheckpoint, listCheckpoints, newestCheckpoint, RunError, setAside } from "../fit/index.js";
import { type Method, methodNamed } from "../methods/index.js";
import { VisionTransformer } from "../models/index.js";
import { AdamW, decayGroups } from "../optim/index.js";
import { getRngState, manualSeed, rand, readSafetensors, tidy, writeSafetensors } from "../torch/index.js";
import { loadCheckpoint, saveCheckpoint } from "./checkpoint.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-checkpoint-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const metadata = { libtorch: "1", method: "dino" };
/** A tiny DINO whose head has `outFeatures` prototypes, and its optimiser after one step. */
function trained(seed: number, outFeatures = 8): { method: Method; optimizer: AdamW } {
  manualSeed(seed);
  const { create, options } = methodNamed("dino");
  const chosen = options.parse({ head: { outFeatures, hidden: 8, bottleneck: 4 } });
  const config = { imageSize: 8, patchSize: 4, width: 8, depth: 1, heads: 1, channels: 1 };
  const method = create(chosen, {
    encoder: () => new VisionTransformer(config),
    data: { channels: 1, mean: [0.5], std: [0.5] },
    seed: 0,
    batchSize: 4,
  });
  const optimizer = new AdamW(decayGroups(method.trainable, "all"), { lr: 0.1 });
  tidy(() => {
    for (const each of optimizer.parameters) each.mul(each).sum().backward();
    optimizer.step();
    optimizer.zeroGrad();
  });
  return { method, optimizer };
}
const save = (state: ReturnType<typeof trained>, step: number, keep = 2) =>
  saveCheckpoint(folder, { ...state, position: { step, epoch: 0 }, metadata, keep });
const names = () => readdirSync(folder).sort();

describe("saving", () => {
  it("keeps the newest so many, and the best", () => {
    const state = trained(1);
    for (const step of [2, 4]) save(state, step);
    linkCheckpoint(checkpointPath(folder, 4), "best");
    const best = readFileSync(join(folder, "best.safetensors"));
    for (const step of [6, 8, 10]) save(state, step);
    expect(names()).toEqual(["best.safetensors", "step-000000008.safetensors", "step-000000010.safetensors"]);
    expect(listCheckpoints(folder).map(({ step }) => step)).toEqual([8, 10]);
    expect(readFileSync(join(folder, "best.safetensors"))).toEqual(best);
    linkCheckpoint(checkpointPath(folder, 10), "best");
    expect(readFileSync(join(folder, "best.safetensors"))).toEqual(readFileSync(checkpointPath(folder, 10)));
  });

  it("over a checkpoint of the same step leaves the best one as it is", () => {
    save(trained(1), 2);
    linkCheckpoint(checkpointPath(folder, 2), "best");
    const best = readFileSync(join(folder, "best.safetensors"));
    save(trained(2), 2);
    expect(readFileSync(checkpointPath(folder, 2))).not.toEqual(best);
    expect(readFileSync(join(folder, "best.safetensors"))).toEqual(best);
  });

  it("into a folder that is not there says so, and how large it would have been", () => {
    const state = trained(1);
    writeFileSync(join(folder, "file"), "");
    expect(() => saveCheckpoint(join(folder, "file"), { ...state, position: { step: 3, epoch: 0 }, metadata, keep: 1 })).toThrow(
      /^the checkpoint of step 3 was not written: .*It takes 0\.\d MB; make room for it, then start again/,
    );
  });
});

describe("loading", () => {
  it("brings back weights, optimiser and generator", () => {
    const one = trained(1);
    const path = save(one, 7);
    const drawn = tidy(() => rand([4]).toArray());
    const other = trained(2);
    expect(loadCheckpoint(path, other)).toEqual({ step: 7, epoch: 0 });
    expect(tidy(() => rand([4]).toArray())).toEqual(drawn);
    tidy(() => {
      for (const [name, tensor] of one.method.state()) expect(other.method.state().get(name)!.equal(tensor), name).toBe(true);
      const [left, right] = [one.optimizer.stateDict(), other.optimizer.stateDict()];
      expect(right.scalars).toEqual(left.scalars);
      for (const [name, tensor] of left.tensors) expect(right.tensors.get(name)!.equal(tensor), name).toBe(true);
    });
  });

  it("without an optimiser leaves the generator alone", () => {
    const path = save(trained(1), 7);
    const { method } = trained(2);
    const [before, , after] = [getRngState(), loadCheckpoint(path, { method }), getRngState()];
    expect(after.equal(before)).toBe(true);
  });

  it("names what does not fit, and changes nothing", () => {
    const path = save(trained(1), 7);
    const other = trained(2, 16);
    const before = tidy(() => other.method.state().get("center")!.toArray());
    expect(() => loadCheckpoint(path, other)).toThrow(
      /does not fit this run: .*student\.head\.last_layer\.\S+ is \[\d+.*\] instead of \[\d+.*center is \[1, 8\] instead of \[1, 16\]/,
    );
    expect(tidy(() => other.method.state().get("center")!.toArray())).toEqual(before);
    const file = readSafetensors(path);
    file.tensors.delete("method.center");
    file.tensors.set("method.queue", file.tensors.get("rng.default")!);
    writeSafetensors(path, file.tensors, file.metadata);
    expect(() => loadCheckpoint(path, trained(2))).toThrow(/center is missing; queue is unexpected$/);
  });

  it.each([
    ["optimizer", "metadata"],
    ["rng.default", "tensor"],
  ])("a file without %s is no checkpoint", (name, kind) => {
    const path = save(trained(1), 7);
    const { tensors, metadata: all } = readSafetensors(path);
    if (kind === "metadata") delete all[name];
    else tensors.delete(name);
    writeSafetensors(path, tensors, all);
    expect(() => loadCheckpoint(path, trained(2))).toThrow(RunError);
    expect(() => loadCheckpoint(path, trained(2))).toThrow("is not a checkpoint of a run: it has no optimiser or generator");
  });
});

describe("the newest", () => {
  it("is the last one that can be read, with those that cannot", () => {
    expect(newestCheckpoint(folder)).toEqual({ newest: null, damaged: [] });
    expect(newestCheckpoint(join(folder, "nowhere"))).toEqual({ newest: null, damaged: [] });
    const state = trained(1);
    for (const step of [2, 4, 6]) save(state, step, 9);
    truncateSync(checkpointPath(folder, 6), 1000);
    writeSafetensors(checkpointPath(folder, 4), new Map(), { format: "pt" });
    const { newest, damaged } = newestCheckpoint(folder);
    expect(newest).toMatchObject({ step: 2, epoch: 0, metadata: { libtorch: "1" } });
    expect(damaged.map(({ error }) => error.message)).toEqual([
      expect.stringMatching(/step-000000006\.safetensors is not a sound safetensors file/),
      expect.stringMatching(/step-000000004\.safetensors is not a checkpoint of a run: its metadata has no step and epoch/),
    ]);
  });

  it("is not outlived by a damaged one that was set aside", () => {
    const state = trained(1);
    save(state, 2, 1);
    linkSync(checkpointPath(folder, 2), checkpointPath(folder, 9));
    expect(setAside(checkpointPath(folder, 9))).toBe(join(folder, "step-000000009.damaged"));
    save(state, 4, 1);
    expect(names()).toEqual(["step-000000004.safetensors", "step-000000009.damaged"]);
    expect(existsSync(checkpointPath(folder, 4))).toBe(true);
  });
});
