// A grid of classifiers trained side by side is what each would be by itself.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { Generator, memoryStats, randn, type Tensor, tidy } from "../torch/index.js";
import { fitLinear, type LinearOptions } from "./index.js";
import { LinearGrid } from "./linear-grid.js";
import { linearPlan } from "./linear-plan.js";
import { GridOptimizer, membersOf } from "./probe-plan.js";

const width = 6;
const classes = 4;

/** Features of which some directions tell the class. */
function sample(count: number, seed: number): { features: Tensor; labels: Int32Array } {
  const labels = Int32Array.from({ length: count }, (_, i) => (i * 7 + Math.floor(i / 3)) % classes);
  const features = tidy(() => {
    const noise = randn([count, width], { generator: new Generator(seed) });
    for (const [i, label] of labels.entries()) noise.select(0, i).select(0, label).add_(2.5);
    return noise;
  });
  return { features, labels };
}

const close = (a: number, b: number) => Math.abs(a - b) <= 1e-5 * (1 + Math.abs(b));

describe("a grid", () => {
  it("of G equals G separate runs, for every optimiser, norm and rate", async () => {
    const property = fc.asyncProperty(
      fc.record({
        optimizer: fc.constantFrom("sgd" as const, "lars" as const),
        batchNorm: fc.boolean(),
        batchSize: fc.integer({ min: 5, max: 40 }),
        warmupEpochs: fc.integer({ min: 0, max: 2 }),
        seed: fc.integer({ min: 0, max: 1000 }),
        lr: fc.uniqueArray(fc.double({ min: 0.01, max: 3, noNaN: true }), { minLength: 1, maxLength: 3 }),
        weightDecay: fc.uniqueArray(fc.constantFrom(0, 0.01, 0.3), { minLength: 1, maxLength: 2 }),
      }),
      async (options) => {
        const data = { train: sample(40, 1), test: sample(20, 2), classes };
        const together = await fitLinear({ ...data, protocol: { ...options, epochs: 2 } });
        for (const [d, decay] of options.weightDecay.entries()) {
          for (const [r, lr] of options.lr.entries()) {
            const alone = await fitLinear({ ...data, protocol: { ...options, epochs: 2, lr: [lr], weightDecay: [decay] } });
            const member = together.grid[d * options.lr.length + r]!;
            expect(member).toMatchObject({ baseLr: lr, weightDecay: decay });
            expect(close(member.loss, alone.best.loss), `${member.loss} is not ${alone.best.loss}`).toBe(true);
            expect(member.top1).toBeCloseTo(alone.best.top1, 1); // a test image on the edge may fall to either side
          }
        }
        for (const { features } of [data.train, data.test]) features.dispose();
      },
    );
    await fc.assert(property, { numRuns: 15 });
  });

  it("learns the same from a batch in pieces as from the whole, and one member's overflow leaves the others alone", () => {
    const make = () => new LinearGrid({ width, classes, members: 2, batchNorm: { eps: 1e-6 }, generator: new Generator(0) });
    const { features, labels } = sample(16, 3);
    tidy(() => {
      const [whole, broken] = [make(), make()];
      const numbers = randn([16], { generator: new Generator(1) })
        .argsort()
        .remainder(classes);
      const rows = whole.learn(features, numbers);
      broken.weight.detach().narrow(0, 0, 1).fill_(Number.POSITIVE_INFINITY);
      const losses = broken.learn(features, numbers);
      expect(Number.isFinite(losses.select(0, 0).item())).toBe(false);
      expect(losses.select(0, 1).item()).toBe(rows.select(0, 1).item());
      const gradient = (grid: LinearGrid) => grid.groups[1]!.parameters[0]!.grad!;
      expect(gradient(broken).equal(gradient(whole))).toBe(true);
      expect(labels).toHaveLength(16);
      whole.dispose();
      broken.dispose();
    });
  });

  it("keeps no handle from step to step", () => {
    collectGarbage();
    const plan = linearPlan({ lr: [0.1, 1], optimizer: "lars", epochs: 10, warmupEpochs: 1 }, 16, "features");
    const { features } = sample(16, 3);
    const labels = tidy(() => randn([16]).argsort().remainder(classes));
    const grid = new LinearGrid({
      width,
      classes,
      members: membersOf(plan).length,
      batchNorm: null,
      generator: new Generator(0),
    });
    const optimizer = new GridOptimizer(plan, grid.groups, 1);
    const counts = Array.from({ length: 4 }, (_, step) => {
      tidy(() => grid.learn(features, labels).toArray());
      optimizer.step(step);
      return memoryStats().handles;
    });
    expect(new Set(counts.slice(1)).size).toBe(1);
    optimizer.dispose();
    grid.dispose();
  });
});

describe("fitLinear", () => {
  it("tells classes that features tell, the same every time, and frees what it made", async () => {
    const data = { train: sample(200, 1), test: sample(60, 2), classes };
    const protocol: LinearOptions = { lr: [0.1, 1e-6], epochs: 10, batchSize: 20, warmupEpochs: 0 };
    collectGarbage();
    const before = memoryStats().handles;
    const result = await fitLinear({ ...data, protocol });
    expect(memoryStats().handles).toBe(before);
    expect(result.best).toBe(result.grid[0]);
    expect(result.best.top1).toBeGreaterThan(0.7);
    expect(result.grid[1]!.loss).toBeGreaterThan(1.3);
    expect(result.images).toEqual({ train: 200, test: 60 });
    expect(result.confusion.flat().reduce((a, b) => a + b, 0)).toBe(60);
    expect(result.confusion.reduce((sum, row, i) => sum + row[i]!, 0) / 60).toBeCloseTo(result.best.top1, 10);
    const again = await fitLinear({ ...data, protocol });
    expect(again).toEqual(result);
    const other = await fitLinear({ ...data, protocol: { ...protocol, seed: 1 } });
    expect(other.best.loss).not.toBe(result.best.loss);
  });

  it("reports the best epoch where the protocol does", async () => {
    const data = { train: sample(60, 1), test: sample(30, 2), classes };
    const lr = [30];
    const best = await fitLinear({ ...data, protocol: { preset: "moco-v3", lr, epochs: 8, batchSize: 10 } });
    // The last epoch's accuracy is one of those that the best was taken from.
    const last = await fitLinear({ ...data, protocol: { batchNorm: false, lr, epochs: 8, batchSize: 10 } });
    expect(best.best.epoch).toBeLessThanOrEqual(8);
    expect(last.best.epoch).toBe(8);
    expect(best.plan).toMatchObject({ preset: "moco-v3", report: "best-epoch", batchNorm: null, momentum: 0.9 });
  });

  it("stops when asked", async () => {
    const data = { train: sample(60, 1), test: sample(30, 2), classes };
    const controller = new AbortController();
    const run = fitLinear({
      ...data,
      protocol: { epochs: 100 },
      signal: controller.signal,
      onProgress: ({ epoch }) => epoch === 3 && controller.abort(new Error("enough")),
    });
    await expect(run).rejects.toThrow("enough");
  });

  it("says what is wrong", async () => {
    const good = { train: sample(20, 1), test: sample(10, 2), classes };
    const message = (change: object) =>
      fitLinear({ ...good, ...change }).then(
        () => "nothing",
        (error: Error) => `${error.name}: ${error.message}`,
      );
    expect(await message({ test: { features: randn([10, 5]), labels: good.test.labels } })).toMatch(
      /EvaluateError: The features to learn from and to be judged by are \[20, 6\] and \[10, 5\]; expected/,
    );
    expect(await message({ classes: 3 })).toMatch(/labels\[\d+\] is 3; expected 0 to 2 for 3 classes/);
    expect(await message({ train: { ...good.train, labels: [0, 1] } })).toMatch(/2 labels for 20 features/);
    expect(await message({ protocol: { lr: [] } })).toMatch(/EvaluateError: lr of the linear probe: /);
    expect(await message({ protocol: { lr: [-1] } })).toMatch(/EvaluateError: lr\.0 of the linear probe: /);
    expect(await message({ protocol: { preset: "mae", epochs: 5 } })).toMatch(/warm-up of 10 epochs is longer than the 5 epochs/);
  });
});
