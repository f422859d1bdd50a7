// Evaluations of a frozen encoder that were interrupted go on and end as they would have: features, weights, scores, to the same bits.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { ArrayDataset, evalViews, sharedBytes, sharedInts } from "../data/index.js";
import { VisionTransformer } from "../models/index.js";
import { Linear } from "../nn/index.js";
import { manualSeed, memoryStats } from "../torch/index.js";
import { type AttentiveOptions, attentiveProbe, evaluateKnn, type LinearOptions, linearProbe, removeKept } from "./index.js";

const plan = evalViews({ size: 8, resize: false, channels: 1, normalization: { mean: [0.4], std: [0.2] } });

function images(count: number, salt: number): ArrayDataset {
  const pixels = sharedBytes(count * 64);
  for (let i = 0; i < count; i++)
    for (let p = 0; p < 64; p++) pixels[i * 64 + p] = (p % 4 === i % 4 ? 120 : 0) + ((i * 31 + p * p * 7 + salt) % 130);
  const labels = sharedInts(Array.from({ length: count }, (_, i) => i % 4));
  return new ArrayDataset({ name: "stripes", width: 8, height: 8, channels: 1, pixels, labels, classes: ["a", "b", "c", "d"] });
}

const [train, test] = [images(50, 1), images(23, 5)];
const stop = new Error("stop");

describe("an evaluation that was interrupted", () => {
  let folder: string;
  let encoder: VisionTransformer;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tessera-keep-"));
    manualSeed(3);
    encoder = new VisionTransformer({ imageSize: 8, patchSize: 4, channels: 1, width: 8, depth: 2, heads: 2 });
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
    encoder.dispose();
  });

  /** Runs to the end in as many lives as it takes, each of which ends after so many calls of its progress. */
  async function inLives<Result>(
    lives: readonly number[],
    run: (life: { keep: { folder: string; everySeconds: number }; signal: AbortSignal; tick: () => void }) => Promise<Result>,
  ): Promise<Result> {
    const keep = { folder, everySeconds: 0 };
    for (const [life, ticks] of [...lives, Number.POSITIVE_INFINITY].entries()) {
      const controller = new AbortController();
      let count = 0;
      const tick = () => {
        count += 1;
        if (count === ticks) controller.abort(stop);
      };
      const result = run({ keep, signal: controller.signal, tick });
      if (life === lives.length) return await result;
      await expect(result).rejects.toBe(stop);
    }
    throw new Error("unreachable");
  }

  const common = { train, test, plan, encodeBatch: 8, workers: 0 };
  const untimed = <T extends { seconds: unknown }>({ seconds: _, ...rest }: T) => rest;

  for (const [what, augment] of [
    ["features taken once", false],
    ["several views of an image", 2],
    ["views taken anew in every epoch", true],
  ] as const) {
    it(`is the same linear probe: ${what}`, async () => {
      const protocol = { preset: "mae", epochs: 6, warmupEpochs: 1, batchSize: 12, lr: [0.1, 1] } satisfies LinearOptions;
      const options = { ...common, encoder, augment, protocol };
      const straight = await linearProbe(options);
      const resumed = await inLives([2, 5, 9, 6], ({ keep, signal, tick }) =>
        linearProbe({ ...options, keep, signal, onFeatures: tick, onProgress: tick }),
      );
      expect(untimed(resumed)).toEqual(untimed(straight));
    });
  }

  it("is the same attentive probe", async () => {
    const protocol = { preset: "cae", epochs: 5, warmupEpochs: 1, batchSize: 16, lr: [1, 40] } satisfies AttentiveOptions;
    const options = { ...common, encoder, protocol };
    const straight = await attentiveProbe(options);
    const resumed = await inLives([4, 12, 7], ({ keep, signal, tick }) =>
      attentiveProbe({ ...options, keep, signal, onFeatures: tick, onProgress: tick }),
    );
    expect(untimed(resumed)).toEqual(untimed(straight));
  });

  it("is the same k-NN, and no image went through the encoder twice", async () => {
    const head = new Linear(64, 6);
    let seen = 0;
    const options = {
      ...{ train, test, plan, batchSize: 8, workers: 0, k: [1, 5], confusion: true },
      fn: (x: Parameters<typeof head.call>[0]) => {
        seen += x.size(0);
        const once = head.call(x.flatten(1));
        return { once, twice: once.mul(2) };
      },
    };
    const straight = await evaluateKnn(options);
    expect(seen).toBe(73);
    seen = 0;
    collectGarbage();
    const before = memoryStats().handles;
    const resumed = await inLives([2, 4, 2], ({ keep, signal, tick }) =>
      evaluateKnn({ ...options, keep, signal, onProgress: tick }),
    );
    expect(memoryStats().handles).toBe(before);
    expect(seen).toBe(73);
    expect(untimed(resumed)).toEqual(untimed(straight));
    expect(readdirSync(join(folder, "features")).length).toBe(10);
    removeKept({ folder });
    expect(() => readdirSync(folder)).toThrow(/ENOENT/);
    head.dispose();
  });
});
