import { describe, expect, it } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { ArrayDataset, BadSampleError, createLoader, type Dataset, evalViews, sharedBytes, sharedInts } from "../data/index.js";
import { Dropout, Linear, Sequential } from "../nn/index.js";
import { memoryStats, type Tensor } from "../torch/index.js";
import { EvaluateError, evaluateKnn, extractFeatures, type FeatureFunction, KnnEvaluator, pixelFeatures } from "./index.js";

const plan = evalViews({ size: 4, resize: false, channels: 1, normalization: { mean: [0.4], std: [0.2] } });

/** Images of 4 x 4 whose class is the bright row. */
function images(count: number, name = "rows"): ArrayDataset {
  const pixels = sharedBytes(count * 16);
  for (let i = 0; i < count; i++) {
    for (let p = 0; p < 16; p++) pixels[i * 16 + p] = Math.floor(p / 4) === i % 4 ? 200 + (i % 50) : (i * 7 + p * 3) % 60;
  }
  const labels = sharedInts(Array.from({ length: count }, (_, i) => i % 4));
  return new ArrayDataset({ name, width: 4, height: 4, channels: 1, pixels, labels, classes: ["a", "b", "c", "d"] });
}

const loaderOf = (dataset: Dataset, batchSize = 8) =>
  createLoader({ dataset, plan, batchSize, workers: 0, shuffle: false, dropLast: false });

describe("extractFeatures", () => {
  it("gives the features of every image in order, and leaves only them", async () => {
    const dataset = images(21);
    collectGarbage();
    const before = memoryStats().handles;
    const seen: [number, number][] = [];
    const found = await extractFeatures(pixelFeatures(plan), loaderOf(dataset), plan, { onProgress: (...at) => seen.push(at) });
    expect(memoryStats().handles).toBe(before + 1);
    expect(found.features.features!.shape).toEqual([21, 16]);
    expect([...found.index]).toEqual(Array.from({ length: 21 }, (_, i) => i));
    expect([...found.labels!]).toEqual(Array.from({ length: 21 }, (_, i) => i % 4));
    expect(seen).toEqual([
      [8, 24],
      [16, 24],
      [21, 24],
    ]);
    const rows = found.features.features!.tolist() as number[][];
    for (const [i, row] of rows.entries()) {
      const pixels = Array.from((dataset.read(i) as { data: Uint8Array }).data, (byte) => expect.closeTo(byte / 255, 5));
      expect(row).toEqual(pixels);
    }
    found.dispose();
    expect(memoryStats().handles).toBe(before);
  });

  it("runs in eval mode without gradients, and sets every submodule's mode back", async () => {
    const model = new Sequential(new Linear(16, 3), new Dropout(0.5));
    const dropout = [...model.namedModules()].map(([, each]) => each).find((each) => each instanceof Dropout)!;
    model.train();
    dropout.eval();
    const fn: FeatureFunction = (x) => {
      expect(model.training || dropout.training).toBe(false);
      const out = model.call(x.flatten(1));
      expect(out.requiresGrad).toBe(false);
      return { once: out, twice: out.mul(2) };
    };
    const { features } = await extractFeatures(fn, loaderOf(images(10)), plan, { module: model });
    expect(features.twice!.equal(features.once!.mul(2))).toBe(true);
    expect([model.training, dropout.training]).toEqual([true, false]);
    const fail = () => {
      throw new Error("stop");
    };
    const handles = memoryStats().handles;
    await expect(extractFeatures(fail, loaderOf(images(10)), plan, { module: model })).rejects.toThrow("stop");
    expect(model.training).toBe(true);
    expect(memoryStats().handles).toBe(handles);
  });

  it("runs under bfloat16 autocast when asked and still collects float32", async () => {
    const model = new Linear(16, 3);
    const dtypes: string[] = [];
    const fn = (x: Tensor): Tensor => {
      const out = model.call(x.flatten(1));
      dtypes.push(out.dtype);
      return out;
    };
    const { features } = await extractFeatures(fn, loaderOf(images(8)), plan, { bf16: true });
    expect(dtypes).toEqual(["bfloat16"]);
    expect(features.features!.dtype).toBe("float32");
  });

  it("leaves out samples that cannot be read", async () => {
    const whole = images(40);
    const broken: Dataset = {
      name: "broken",
      length: 40,
      classes: whole.classes!,
      spec: whole.spec,
      label: (i) => whole.label(i),
      path: (i) => whole.path(i),
      read: (i) => {
        if (i === 3 || i === 17) throw new BadSampleError("no good");
        return whole.read(i);
      },
    };
    const { features, index, labels } = await extractFeatures((x) => x.flatten(1), loaderOf(broken), plan);
    const expected = Array.from({ length: 40 }, (_, i) => i).filter((i) => i !== 3 && i !== 17);
    expect([...index]).toEqual(expected);
    expect([...labels!]).toEqual(expected.map((i) => i % 4));
    const intact = await extractFeatures((x) => x.flatten(1), loaderOf(whole), plan);
    const rows = intact.features.features!.tolist() as number[][];
    expect(features.features!.tolist()).toEqual(expected.map((i) => rows[i]));
  });

  it("says what is wrong", async () => {
    const attempt = (fn: FeatureFunction, view?: string) =>
      extractFeatures(fn, loaderOf(images(10)), plan, view === undefined ? {} : { view });
    await expect(attempt((x) => x.sum())).rejects.toThrow(/"features" gave shape \[\] for 8 images; expected a Tensor \[8, D\]/);
    await expect(attempt(() => ({}))).rejects.toThrow(/gave no read-out/);
    await expect(attempt((x): Record<string, Tensor> => (x.size(0) === 8 ? { a: x } : { b: x }))).rejects.toThrow(
      /gave b after a; always give the same/,
    );
    await expect(attempt((x) => x, "global")).rejects.toThrow('The loader makes no view "global"; it makes image.');
    await expect(attempt((x) => x.sum())).rejects.toBeInstanceOf(EvaluateError);
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    const aborted = extractFeatures((x) => x, loaderOf(images(10)), plan, { signal: controller.signal });
    await expect(aborted).rejects.toThrow("enough");
  });
});

describe("evaluateKnn", () => {
  it("classifies the test split by the training split, for every read-out", async () => {
    collectGarbage();
    const before = memoryStats().handles;
    const found = await evaluateKnn({
      train: images(80),
      test: images(20, "test rows"),
      plan,
      workers: 0,
      fn: (x) => ({ pixels: x.flatten(1), nothing: x.flatten(1).narrow(1, 0, 1).mul(0) }),
    });
    expect(found.readouts.pixels).toEqual({ top1: { 10: 1, 20: 1 }, top5: { 10: 1, 20: 1 } });
    expect(found.readouts.nothing!.top1[20]).toBe(0.25);
    expect([found.bank, found.queries]).toEqual([80, 20]);
    expect(memoryStats().handles).toBe(before);
  });

  it("can be asked again, with part of the bank and the queries", async () => {
    const evaluator = new KnnEvaluator({
      train: images(80),
      test: images(20),
      plan,
      bankSize: 12,
      querySize: 8,
      workers: 0,
      k: [1, 12],
    });
    const seen: [number, number][] = [];
    const results = [];
    for (let i = 0; i < 2; i++) results.push(await evaluator.run(pixelFeatures(plan), { onProgress: (...at) => seen.push(at) }));
    await evaluator.close();
    expect(results[1]!.readouts).toEqual(results[0]!.readouts);
    expect(results[0]).toMatchObject({ bank: 12, queries: 8, readouts: { features: { top1: { 1: 1 } } } });
    const once = [
      [12, 20],
      [20, 20],
    ];
    expect(seen).toEqual([...once, ...once]);
  });

  it("refuses datasets without labels and with other classes", () => {
    const { classes, ...unlabelled } = images(8);
    expect(classes).toHaveLength(4);
    const bare = Object.assign(Object.create(ArrayDataset.prototype) as Dataset, unlabelled, { name: "bare" });
    expect(() => new KnnEvaluator({ train: images(8), test: bare, plan })).toThrow(/^bare has no labels/);
    const other = Object.assign(Object.create(ArrayDataset.prototype) as Dataset, unlabelled, { name: "other", classes: ["x"] });
    expect(() => new KnnEvaluator({ train: images(8), test: other, plan })).toThrow(/^rows and other have different classes/);
  });
});
