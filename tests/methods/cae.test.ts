// CAE: against tests/reference/cae.py, and every trap of the reference code by itself.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { Rng } from "../../src/data/index.js";
import { blockMask, Cae, type CaeBatch, cae, caeOptions, scatteredMask } from "../../src/methods/index.js";
import { Dvae, loadTokenizer, VisionTransformer, type VitConfig } from "../../src/models/index.js";
import { AdamW, decayGroups } from "../../src/optim/index.js";
import { crossEntropy, fromTypedArray, manualSeed, noGrad, randn, tidy, writeSafetensors } from "../../src/torch/index.js";
import { fill, readGolden, type Stored, testRegenerates, valuesOf } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, context, tinyVit } from "./support.js";

interface Case {
  loss: number;
  target: number;
  align: number;
  gradients: Record<string, [norm: number, product: number]>;
}
type Golden = { positions: Record<string, Stored>; names: string[] } & Record<string, Case>;
const golden = readGolden<Golden>("cae");

const masked = [
  [0, 1, 2, 5, 6, 9, 14, 15],
  [3, 4, 7, 8, 10, 11, 12, 13],
  [1, 3, 5, 7, 8, 10, 12, 14],
];
const index = (rows: number[][]) => fromTypedArray(BigInt64Array.from(rows.flat().map(BigInt)), [rows.length, rows[0]!.length]);
const visible = masked.map((row) => Array.from({ length: 16 }, (_, i) => i).filter((i) => !row.includes(i)));

const vit: VitConfig = { ...tinyVit, positions: "sin-cos", init: "cae", keyBias: false, layerScale: 0.1 };
const small = { crops: { globalSize: 16 }, regressorDepth: 2, decoderDepth: 2, decoderHeads: 2, decoderDropPath: 0 };
const make = (changes: object = {}, model = vit) => new Cae(caeOptions.parse({ ...small, ...changes }), context(model));
const folder = mkdtempSync(join(tmpdir(), "tessera-cae-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The program's batch and masks. */
function given(images = fill([3, 3, 16, 16], 10)): CaeBatch {
  const views = { image: images.unsqueeze(0), target: fill([3, 3, 32, 32], 12).unsqueeze(0) };
  return { batch: { views, index: new Int32Array(3) }, images, masked: index(masked), visible: index(visible) };
}

/** The frozen encoder of the program, in a file. */
function frozenFile(): string {
  const path = join(folder, "frozen.safetensors");
  const config = { imageSize: 16, patchSize: 8, width: 12, depth: 1, heads: 2 };
  const frozen = setWeights(new VisionTransformer(config), "frozen.");
  writeSafetensors(path, frozen.stateDict(), { model: JSON.stringify(config), mean: "[0.5,0.5,0.5]", std: "[0.25,0.25,0.25]" });
  return path;
}

/** A tokenizer of 7 codes and stride 2, in a file. */
function tokenizerFile(): string {
  const path = join(folder, "tokenizer.safetensors");
  const config = { width: 4, groups: 2, blocksPerGroup: 1, vocabulary: 7, decoderWidth: 4, decoderInit: 4 };
  writeSafetensors(path, setWeights(new Dvae(config)).stateDict(), {});
  return path;
}

/** With the program's weights and positions, in float64. */
function prepared(method: Cae): Cae {
  const { trainable } = method;
  trainable.to("float64");
  const width = trainable.positions.size(2);
  setWeights(trainable);
  const exact = (name: number) => fromTypedArray(valuesOf(golden.positions[name]!), [1, 16, name]);
  noGrad(() => {
    trainable.positions.copy_(exact(width));
    (trainable.backbone as VisionTransformer).posEmbed.zero_().slice(1, 1).copy_(exact(16));
  });
  return method;
}

describe("a step as the reference program makes it", () => {
  const cases: Record<string, () => Cae> = {
    pixels: () => make(),
    projected: () => make({ decoderWidth: 12, align: 0.5 }),
    features: () =>
      make({ target: { kind: "features", encoder: frozenFile() }, align: 0, decoderDepth: 0, regressorNorm: false }),
  };
  for (const [name, build] of Object.entries(cases)) {
    test(`${name}: both terms and all gradients`, () => {
      const method = prepared(build());
      method.given = () => given();
      check(method, golden[name]!);
    });
  }

  test("tokens: labels of masked positions only, which the tokenizer sees without mean and deviation", () => {
    const method = make({ target: { kind: "tokens", tokenizer: tokenizerFile() } });
    expect(method.views.views.map(({ name, size }) => [name, ...size])).toEqual([
      ["image", 16, 16],
      ["tokens", 8, 8],
    ]);
    prepared(method);
    const pixels = fill([3, 3, 8, 8], 4).abs().float();
    const { batch, ...rest } = given();
    const views = { ...batch.views, tokens: pixels.sub(0.5).div(0.25).unsqueeze(0) };
    method.given = () => ({ ...rest, batch: { ...batch, views } });
    const ids = fill([3, 16], 5).mul(1000).to("int64").remainder(7);
    const tokenizer = loadTokenizer(tokenizerFile());
    const own = tokenizer.encode(pixels).flatten(1);
    const { metrics } = method.step(batch, at(0, { report: true }));
    expect(metrics!.accuracy!.item()).toBeGreaterThanOrEqual(0);
    // The program's labels in place of the tokenizer's own, which its own test checks.
    const spoken = method.target.loss;
    method.target.loss = (predicted, all) => {
      const { loss } = spoken(predicted, all);
      const logits = predicted.flatten(0, 1);
      expect(loss.item()).toBeCloseTo(crossEntropy(logits, own.gather(1, all.masked).flatten()).item(), 8);
      return { term: "ce", loss: crossEntropy(logits, ids.gather(1, all.masked).flatten()), metrics: {} };
    };
    check(method, golden.tokens!);
  });

  function check(method: Cae, expected: Case): void {
    const { loss, terms } = method.step(given().batch, at(0));
    loss.backward();
    const close = (value: number, wanted: number, what: string, scale = Math.abs(wanted)) =>
      expect(Math.abs(value - wanted), `${what}: ${value}, expected ${wanted}`).toBeLessThan(1e-7 * (1 + scale));
    const { align, ...others } = terms;
    close(loss.item(), expected.loss, "loss");
    close(Object.values(others)[0]!.item(), expected.target, "target");
    if (align) close(align.item(), expected.align, "align");
    for (const [each, parameter] of method.trainable.namedParameters()) {
      const wanted = expected.gradients[each];
      const gradient = parameter.grad;
      if (!wanted) {
        expect(gradient, each).toBeNull();
        continue;
      }
      const scale = wanted[0] * Math.sqrt(gradient!.numel);
      close(gradient!.norm().item(), wanted[0], `norm of the gradient of ${each}`, scale);
      close(gradient!.mul(fill(gradient!.shape, 3)).sum().item(), wanted[1], `gradient of ${each}`, scale);
    }
  }

  test("names", () => {
    const own = [...make({ decoderWidth: 12 }).trainable.stateDict().keys()].filter(
      (name) => !/positions|pos_embed|\.head\./.test(name),
    );
    expect(own.sort()).toEqual(golden.names.filter((name) => !name.includes(".head.")).sort());
  });
  testRegenerates("cae");
});

describe("masks", () => {
  test("blocks: the exact count on grids of any size, and what is hidden comes once", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 15 }),
        fc.integer({ min: 1, max: 15 }),
        fc.double({ min: 0.05, max: 0.95, noNaN: true }),
        fc.nat(),
        (rows, columns, ratio, seed) => {
          const count = Math.round(rows * columns * ratio);
          const smallest = Math.max(1, Math.round((16 * rows * columns) / 196));
          const hidden = blockMask(new Rng(seed), [rows, columns], { count, smallest });
          expect(new Set(hidden).size).toBe(count);
          expect(hidden.every((patch) => Number.isInteger(patch) && patch >= 0 && patch < rows * columns)).toBe(true);
          expect(scatteredMask(new Rng(seed), rows * columns, count)).toHaveLength(count);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("blocks on the paper's grid: exactly 98 of 196 in 10,000 draws, 0.86 of the time in the centre and 0.06 in the corners", () => {
    const often = new Float64Array(196);
    const rng = new Rng(1);
    for (let draw = 0; draw < 10_000; draw++) {
      const hidden = blockMask(rng.at(0, draw, 1), [14, 14], { count: 98, smallest: 16 });
      if (hidden.length !== 98) expect.fail(`${hidden.length} patches are hidden`);
      for (const patch of hidden) often[patch]! += 1 / 10_000;
    }
    const share = (patches: number[]) => patches.reduce((sum, patch) => sum + often[patch]!, 0) / patches.length;
    expect(share([6 * 14 + 6, 6 * 14 + 7, 7 * 14 + 6, 7 * 14 + 7])).toBeCloseTo(0.86, 1);
    expect(Math.abs(share([0, 13, 182, 195]) - 0.06)).toBeLessThan(0.02);
    expect(Math.abs(share([6, 7, 6 * 14, 7 * 14 + 13]) - 0.27)).toBeLessThan(0.04);
  });

  test("depend on seed, epoch and sample only; masked and visible patches are all, in raster order", () => {
    const images = randn([2, 3, 16, 16]).unsqueeze(0);
    const drawn = (epoch: number, samples: number[], seed = 0) => {
      const method = new Cae(caeOptions.parse(small), { ...context(vit), seed });
      const { masked: hidden, visible: seen } = method.given(
        { views: { image: images }, index: Int32Array.from(samples) },
        epoch,
      );
      return [hidden.tolist(), seen.tolist()] as number[][][];
    };
    const [hidden, seen] = drawn(3, [7, 8]);
    for (const [i, row] of hidden!.entries()) {
      expect(row).toEqual([...row].sort((a, b) => a - b));
      expect([...row, ...seen![i]!].sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, each) => each));
      expect(row).toHaveLength(8);
    }
    expect(drawn(3, [8, 7])[0]).toEqual([...hidden!].reverse());
    for (const other of [drawn(4, [7, 8]), drawn(3, [7, 8], 1), drawn(3, [9, 10])]) expect(other[0]).not.toEqual(hidden);
  });
});

describe("traps", () => {
  test("masked patches' pixels reach the encoder nowhere: predictions do not depend on them", () => {
    const method = make();
    method.trainable.eval();
    const one = given(fill([3, 3, 16, 16], 10).float());
    const other = { ...one, images: one.images.clone() };
    noGrad(() => void other.images.select(0, 0).slice(1, 0, 4).slice(2, 0, 12).fill_(9));
    const [a, b] = [method.forward(one), method.forward(other)];
    expect(a.predicted.equal(b.predicted)).toBe(true);
    expect(a.aligned!.equal(b.aligned!)).toBe(false);
  });

  test("Z_m is the encoder of the current weights on masked patches, after its final norm, and without gradient", () => {
    const method = make();
    const optimizer = new AdamW(decayGroups(method.trainable, "all"), { lr: 0.1 });
    method.given = () => given(fill([3, 3, 16, 16], 10).float());
    const check = () => {
      const batch = method.given({} as never, 0);
      const own = method.encoder.call(batch.images, { subset: batch.masked }).patches!;
      const { aligned } = method.forward(batch);
      expect(aligned!.requiresGrad).toBe(false);
      expect(aligned!.sub(own).abs().amax().item()).toBeLessThan(1e-6);
    };
    check();
    tidy(() => {
      method.step({} as never, at(0)).loss.backward();
      optimizer.step();
    });
    check();
  });

  test("drop path is on while Z_m is made, or off on request", () => {
    const model = { ...vit, dropPath: 0.9 };
    const targets = (alignDropPath: boolean) => {
      manualSeed(1);
      const method = make({ alignDropPath }, model);
      const batch = given(fill([3, 3, 16, 16], 10).float());
      const [a, b] = [method.align(batch.images, batch.masked), method.align(batch.images, batch.masked)];
      expect(method.encoder.training).toBe(true);
      return a.equal(b);
    };
    expect(targets(true)).toBe(false);
    expect(targets(false)).toBe(true);
  });

  test("there is no bias of keys, and class and mask token decay while one-dimensional parameters do not", () => {
    const names = [...make().trainable.stateDict().keys()];
    expect(names.filter((name) => /k_bias|\.k\.bias|qkv\.bias/.test(name))).toEqual([]);
    const [decayed, kept] = decayGroups(make().trainable, "no-bias-norm").map((group) => group.names);
    expect(decayed).toEqual(expect.arrayContaining(["backbone.cls_token", "mask_token"]));
    expect(kept!.every((name) => !/weight$/.test(name) || name.includes("norm"))).toBe(true);
  });

  test("initial values: unit-variance latents that know nothing of each other differ by 2, and codes cost ln K and a little", () => {
    manualSeed(0);
    const method = new Cae(
      caeOptions.parse({ crops: { globalSize: 32 }, decoderHeads: 4 }),
      context({ ...vit, imageSize: 32, width: 128, depth: 4, heads: 4 }),
    );
    const { loss, terms } = method.step({ views: { image: randn([1, 8, 3, 32, 32]) }, index: new Int32Array(8) }, at(0));
    expect(terms.align!.item()).toBeGreaterThan(1.6);
    expect(terms.align!.item()).toBeLessThan(2.4);
    expect(loss.item()).toBeCloseTo(terms.mse!.item() + 2 * terms.align!.item(), 4);
  });

  test("without alignment its pass is not made", () => {
    const method = make({ align: 0 });
    let calls = 0;
    const call = method.encoder.call.bind(method.encoder);
    method.encoder.call = ((...args: Parameters<typeof call>) => {
      calls += 1;
      return call(...args);
    }) as typeof call;
    const { terms } = method.step(given(fill([3, 3, 16, 16], 10).float()).batch, at(0));
    expect([Object.keys(terms), calls]).toEqual([["mse"], 1]);
  });

  test("options that do not fit are refused", () => {
    const facts = { grid: [4, 4], width: 16, classToken: true } as never;
    const paths = (options: object, more: object = {}) =>
      cae.check!(caeOptions.parse(options), { ...(facts as object), ...more } as never).map(({ path }) => path);
    expect(paths({ maskRatio: 0.01, decoderHeads: 4 })).toEqual(["maskRatio"]);
    expect(paths({})).toEqual(["decoderHeads"]);
    expect(paths({ decoderWidth: 18, decoderHeads: 2 })).toEqual(["decoderWidth"]);
    expect(paths({ decoderHeads: 2, target: { kind: "features", encoder: "x" } }, { classToken: false })).toEqual([
      "target.tokens",
    ]);
  });
});

test("the target's view is the very same crop", () => {
  const method = make({ target: { kind: "features", encoder: frozenFile() }, align: 0, decoderDepth: 0 });
  const [image, target] = method.views.views;
  expect([image!.size, target!.size, target!.name]).toEqual([[16, 16], [32, 32], "target"]);
  expect(target!.crops[0]!.map((step) => "key" in step && step.key)).toEqual(["crop", "flip"]);
  expect(image!.crops[0]!.map((step) => "key" in step && step.key)).toEqual(["crop", "flip"]);
});

test("draws what was hidden and what is predicted", () => {
  const method = make();
  const images = fill([3, 3, 16, 16], 10).float();
  const [picture] = method.picture({ views: { image: images.unsqueeze(0) }, index: Int32Array.from([0, 1, 2]) });
  expect(picture!.name).toBe("reconstruction");
});
