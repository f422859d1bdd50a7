// What fine-tuning is made of equals timm and PyTorch (tests/reference/finetune.py): mixing, erasing, losses, and classifiers over several steps.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates, valuesOf } from "../../tests/reference/golden.js";
import { weightOf } from "../../tests/reference/vit-weights.js";
import { Rng } from "../data/index.js";
import { SwinTransformer, VisionTransformer } from "../models/index.js";
import { AdamW } from "../optim/index.js";
import { crossEntropy, fromTypedArray, manualSeed, noGrad, randn, type Tensor, tidy, zeros } from "../torch/index.js";
import { EvaluateError } from "./errors.js";
import { Classifier, classifierGroups, classifierTensors, freezeParts, trainableEncoder } from "./finetune-model.js";
import { finetunePlan, finetunePresetNames } from "./finetune-settings.js";
import { finetuneRate, trainingViews } from "./finetune-task.js";
import { cutBox, drawBeta, drawMix, type Mix, mixImages, softTargets } from "./mixup.js";
import { drawErasing, RandomErasing } from "./random-erasing.js";

const golden = readGolden<{
  mixes: {
    lam: number;
    cut: boolean;
    centre: [number, number];
    size: [number, number];
    smoothing: number;
    images: Stored;
    targets: Stored;
  }[];
  erasings: { uniforms: number[]; size: [number, number]; probability: number; box: number[] | null }[];
  losses: Record<"soft" | "soft gradient" | "smooth" | "smooth gradient", Stored>;
  training: Record<
    string,
    { names: string[]; layerDecay: number; lr: number; losses: number[]; weights: Record<string, Stored>; scores: Stored }
  >;
}>("finetune");

const labels = () => fromTypedArray(Int32Array.of(0, 3, 1, 3)).to("int64");
const stored = ({ shape, ...rest }: Stored) => fromTypedArray(valuesOf({ shape, ...rest }), shape);

describe("mixing", () => {
  it("equals timm's images and targets for the same draws", () => {
    for (const { lam, cut, centre, size, smoothing, images, targets } of golden.mixes) {
      const mix: Mix = cut ? { kind: "cutmix", ...cutBox(size, lam, centre) } : { kind: "mixup", lambda: lam };
      const given = fill([4, 3, ...size], 1).float();
      expectClose(mixImages(given, mix), images, 1e-6, `images of ${lam}`);
      expect(given.equal(fill([4, 3, ...size], 1).float())).toBe(true);
      expectClose(softTargets(labels(), 5, { smoothing, mix }).to("float64"), targets, 1e-6, `targets of ${lam}`);
    }
  });

  it("draws by seed and step, each kind as often as it should, within the image", () => {
    const options = { mixup: 0.8, cutmix: 1, switchProbability: 0.3, probability: 0.9 };
    const count = { mixup: 0, cutmix: 0, none: 0 };
    const rng = new Rng(5);
    for (let step = 0; step < 3000; step++) {
      const mix = drawMix(rng.at(0, step, 7), options, [9, 14]);
      expect(drawMix(rng.at(0, step, 7), options, [9, 14])).toEqual(mix);
      count[mix?.kind ?? "none"]++;
      if (mix) expect(mix.lambda >= 0 && mix.lambda <= 1).toBe(true);
      if (mix?.kind !== "cutmix") continue;
      const { top, bottom, left, right } = mix.box;
      expect(0 <= top && top <= bottom && bottom <= 9 && 0 <= left && left <= right && right <= 14).toBe(true);
      expect(mix.lambda).toBeCloseTo(1 - ((bottom - top) * (right - left)) / 126, 12);
    }
    expect(Math.abs(count.none - 300)).toBeLessThan(60);
    expect(Math.abs(count.cutmix - 810)).toBeLessThan(90);
    expect(drawMix(rng, { ...options, mixup: 0, cutmix: 0 }, [9, 9])).toBeNull();
    expect(drawMix(rng, { ...options, cutmix: 0, probability: 1 }, [9, 9])!.kind).toBe("mixup");
    expect(drawMix(rng, { ...options, mixup: 0, probability: 1 }, [9, 9])!.kind).toBe("cutmix");
  });

  it("draws from Beta: the mean is a half, the variance 1 / (8 alpha + 4), also where alpha is tiny", () => {
    for (const alpha of [0.001, 0.2, 0.8, 1, 4]) {
      const rng = new Rng(11);
      const values = Array.from({ length: 4000 }, () => drawBeta(rng, alpha));
      expect(values.every((value) => value >= 0 && value <= 1)).toBe(true);
      const mean = values.reduce((a, b) => a + b) / values.length;
      const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
      expect(Math.abs(mean - 0.5), `mean of ${alpha}`).toBeLessThan(0.03);
      expect(Math.abs(variance * (8 * alpha + 4) - 1), `variance of ${alpha}`).toBeLessThan(0.07);
    }
  });

  it("targets of every batch sum to one", () => {
    fc.assert(
      fc.property(
        fc.float({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 0.9, noNaN: true }),
        (lambda, smoothing) => {
          const sums = softTargets(labels(), 5, { smoothing, mix: { lambda } }).sum(-1).toArray();
          for (const sum of sums) expect(sum).toBeCloseTo(1, 5);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe("the losses", () => {
  it("are timm's with soft targets, and with label smoothing alone", () => {
    for (const [name, targets] of [
      ["soft", stored(golden.mixes[0]!.targets)],
      ["smooth", softTargets(labels(), 5, { smoothing: 0.1 }).to("float64")],
    ] as const) {
      const scores = fill([4, 5], 3).requiresGrad_();
      const loss = crossEntropy(scores, targets);
      expectClose(loss, golden.losses[name], 1e-6, name);
      loss.backward();
      expectClose(scores.grad!, golden.losses[`${name} gradient`], 1e-6, `${name} gradient`);
    }
  });
});

/** Gives numbers that are written down. */
class Given extends Rng {
  readonly #numbers: number[];
  constructor(numbers: readonly number[]) {
    super(0);
    this.#numbers = [...numbers];
  }
  #next(): number {
    return this.#numbers.shift() ?? Number.NaN;
  }
  override uniform(low = 0, high = 1): number {
    return low + (high - low) * this.#next();
  }
  override intBelow(n: number): number {
    return Math.floor(this.#next() * n);
  }
}

describe("random erasing", () => {
  it("takes timm's boxes for the same draws", () => {
    for (const { uniforms, size, probability, box } of golden.erasings) {
      const drawn = drawErasing(new Given(uniforms), probability, size);
      expect(drawn && [drawn.top, drawn.left, drawn.height, drawn.width]).toEqual(box);
    }
  });

  it("is a function of seed, epoch and sample, wherever in the batch the sample is", () => {
    const run = (seed: number, epoch: number, index: number[]) => {
      const images = zeros([index.length, 3, 16, 16]);
      new RandomErasing(0.6, seed).apply(images, epoch, Int32Array.from(index));
      return images;
    };
    const all = run(1, 2, [0, 1, 2, 3, 4, 5, 6, 7]);
    const erased = Array.from({ length: 8 }, (_, i) => all.select(0, i).abs().sum().item() > 0);
    expect(erased).toContain(true);
    expect(erased).toContain(false);
    const turned = run(1, 2, [7, 6, 5, 4, 3, 2, 1, 0]);
    expect(turned.flip([0]).equal(all)).toBe(true);
    expect(run(2, 2, [0, 1, 2, 3, 4, 5, 6, 7]).equal(all)).toBe(false);
    expect(run(1, 3, [0, 1, 2, 3, 4, 5, 6, 7]).equal(all)).toBe(false);
  });

  it("fills a box with standard normal noise and touches nothing else", () => {
    const images = zeros([400, 1, 24, 24]).add_(9);
    new RandomErasing(0.25, 3).apply(
      images,
      0,
      Int32Array.from({ length: 400 }, (_, i) => i),
    );
    let boxes = 0;
    const noise: number[] = [];
    for (let i = 0; i < 400; i++) {
      const inside = images.select(0, i).ne(9).to("int64").select(0, 0);
      const count = inside.sum().item();
      if (count === 0) continue;
      boxes++;
      const [height, width] = [inside.amax(1).sum().item(), inside.amax(0).sum().item()];
      expect(count).toBe(height * width);
      expect(count / 576).toBeLessThan(0.37);
      noise.push(
        ...images
          .select(0, i)
          .toArray()
          .filter((value) => value !== 9),
      );
    }
    expect(Math.abs(boxes - 100)).toBeLessThan(30);
    const mean = noise.reduce((a, b) => a + b) / noise.length;
    const variance = noise.reduce((sum, value) => sum + (value - mean) ** 2, 0) / noise.length;
    expect(Math.abs(mean)).toBeLessThan(0.05);
    expect(Math.abs(variance - 1)).toBeLessThan(0.05);
  });
});

const head = { headStd: 2e-5, poolNorm: "new" } as const;
const vitConfig = { imageSize: 16, patchSize: 4, width: 16, depth: 3, heads: 2 } as const;
const swinConfig = { imageSize: 16, patchSize: 2, embedDim: 8, depths: [2, 2], heads: [2, 4], windowSize: 4 };

function exactly(model: Classifier): Classifier {
  model.to("float64");
  noGrad(() => {
    for (const [name, each] of classifierTensors(model)) each.copy_(weightOf(name, each.shape));
  });
  return model;
}

describe("a classifier in training", () => {
  const made: Record<string, () => Classifier> = {
    "mean of a ViT": () => new Classifier(new VisionTransformer(vitConfig), 5, { ...head, pool: "mean" }),
    "class token of a ViT": () => new Classifier(new VisionTransformer(vitConfig), 5, { ...head, pool: "class" }),
    Swin: () => new Classifier(new SwinTransformer(swinConfig), 5, { ...head, pool: "mean" }),
  };
  for (const [name, { names, layerDecay, lr, losses, weights, scores }] of Object.entries(golden.training)) {
    it(`equals timm's model with layer decay over several steps: ${name}`, () => {
      const model = exactly(made[name]!());
      expect([...classifierTensors(model).keys()].sort()).toEqual([...names].sort());
      const rate = finetuneRate(finetunePlan({ changes: { epochs: 4, batchSize: 256, baseLr: lr, warmupEpochs: 1 } }), 1);
      const optimizer = new AdamW(classifierGroups(model, layerDecay), { lr, weightDecay: 0.05 });
      const targets = stored(golden.mixes[0]!.targets);
      for (const [step, expected] of losses.entries()) {
        tidy(() => {
          optimizer.lr = rate(step);
          const loss = crossEntropy(model.call(fill([4, 3, 16, 16], 1)), targets);
          expect(Math.abs(loss.item() - expected), `loss ${step}`).toBeLessThan(1e-9);
          loss.backward();
          optimizer.step();
          optimizer.zeroGrad();
        });
      }
      const tensors = classifierTensors(model);
      for (const [key, expected] of Object.entries(weights)) {
        const own = tensors.get(key)!;
        const part = own.shape.join() === expected.shape.join() ? own : own.reshape([-1]).slice(0, 0, undefined, 7);
        expectClose(part.detach(), expected, 1e-8, key);
      }
      expectClose(
        noGrad(() => model.eval().call(fill([4, 3, 16, 16], 1))),
        scores,
        1e-8,
        "scores",
      );
      optimizer.dispose();
    });
  }
});

describe("a classifier", () => {
  it("starts from a truncated normal and no bias, and takes the final norm over where it is asked to", () => {
    manualSeed(1);
    const vit = new VisionTransformer(vitConfig);
    noGrad(() => vit.norm.weight!.fill_(3));
    const model = new Classifier(vit, 40, { headStd: 0.02, pool: "mean", poolNorm: "pre-trained" });
    expect(model.fcNorm!.weight!.equal(vit.norm.weight!)).toBe(true);
    expect(Math.abs(model.head.weight.std().item() - 0.02)).toBeLessThan(0.002);
    expect(model.head.bias!.abs().sum().item()).toBe(0);
    expect(classifierGroups(model, 0.5).flatMap(({ names }) => names)).not.toContain("encoder.norm.weight");
    const fresh = new Classifier(vit, 4, { headStd: 0.02, pool: "mean", poolNorm: "new" });
    expect(fresh.fcNorm!.weight!.sum().item()).toBe(16);
  });

  it("of an encoder without class token classifies the mean, and refuses the class token in a sentence", () => {
    const vit = new VisionTransformer({ ...vitConfig, classToken: false });
    const images = fill([2, 3, 16, 16], 1).float();
    const model = new Classifier(vit, 4, { ...head, pool: "mean" }).eval();
    expect(noGrad(() => model.call(images)).shape).toEqual([2, 4]);
    expect(() => new Classifier(vit, 4, { ...head, pool: "class" })).toThrow('expected pool "mean"');
  });

  it("drops paths in training only", () => {
    manualSeed(2);
    const encoder = trainableEncoder(new VisionTransformer(vitConfig), {
      imageSize: 16,
      dropPath: 0.9,
      relPosBias: "as-is",
      scratch: false,
    });
    const model = new Classifier(encoder, 4, { headStd: 1, pool: "mean", poolNorm: "new" });
    const images = randn([2, 3, 16, 16]);
    const twice = () => noGrad(() => model.call(images).sub(model.call(images)).abs().amax().item());
    expect(twice()).toBeGreaterThan(0);
    model.eval();
    expect(twice()).toBe(0);
  });
});

describe("the encoder to train", () => {
  const how = { imageSize: 16, dropPath: 0, relPosBias: "as-is", scratch: false } as const;
  const same = (a: Tensor, b: Tensor) => a.equal(b);

  it("has the given one's weights at any size, or fresh ones, and leaves the given one alone", () => {
    manualSeed(3);
    const vit = new VisionTransformer(vitConfig);
    const before = [...vit.stateDict().values()].map((each) => each.toArray());
    const copied = trainableEncoder(vit, how) as VisionTransformer;
    expect(same(copied.blocks[1]!.mlp.fc1.weight, vit.blocks[1]!.mlp.fc1.weight)).toBe(true);
    expect((trainableEncoder(vit, { ...how, imageSize: [24, 16] }) as VisionTransformer).posEmbed.shape).toEqual([1, 25, 16]);
    const fresh = trainableEncoder(vit, { ...how, scratch: true }) as VisionTransformer;
    expect(fresh.config).toEqual(copied.config);
    expect(same(fresh.blocks[1]!.mlp.fc1.weight, vit.blocks[1]!.mlp.fc1.weight)).toBe(false);
    const swin = new SwinTransformer(swinConfig);
    const other = trainableEncoder(swin, { ...how, dropPath: 0.2 }) as SwinTransformer;
    expect(other.config.dropPath).toBe(0.2);
    expect(same(other.norm.weight!, swin.norm.weight!)).toBe(true);
    expect([...vit.stateDict().values()].map((each) => each.toArray())).toEqual(before);
  });

  it("gets biases by relative position, or loses them", () => {
    const vit = new VisionTransformer(vitConfig);
    const biased = trainableEncoder(vit, { ...how, relPosBias: "shared" }) as VisionTransformer;
    expect(biased.relPosBias!.relativePositionBiasTable.abs().sum().item()).toBe(0);
    expect((trainableEncoder(biased, { ...how, relPosBias: "none" }) as VisionTransformer).relPosBias).toBeNull();
    expect((trainableEncoder(biased, how) as VisionTransformer).config.relPosBias).toBe("shared");
    const swin = new SwinTransformer(swinConfig);
    expect(() => trainableEncoder(swin, { ...how, relPosBias: "block" })).toThrow("a Swin has biases of its own");
  });

  it("refuses a size that is no multiple of the patch", () => {
    expect(() => trainableEncoder(new VisionTransformer(vitConfig), { ...how, imageSize: 18 })).toThrow(
      new EvaluateError("The images are 18x18; expected multiples of the encoder's patch size, 4."),
    );
  });

  it("is trained as far as the settings say", () => {
    const trained = (freeze: "none" | "patch-embed", lastBlocks: number | null) => {
      const model = new Classifier(new VisionTransformer(vitConfig), 4, { ...head, pool: "class" });
      freezeParts(model, { freeze, lastBlocks });
      return new Set(
        classifierGroups(model, 0.5).flatMap(({ names }) => names.map((name) => name.split(".").slice(0, 3).join("."))),
      );
    };
    expect([...trained("patch-embed", null)].some((name) => name.includes("patch_embed"))).toBe(false);
    expect([...trained("none", null)].some((name) => name.includes("patch_embed"))).toBe(true);
    expect(trained("none", 1)).toEqual(
      new Set(["encoder.blocks.2", "encoder.norm.weight", "encoder.norm.bias", "head.weight", "head.bias"]),
    );
    expect(trained("none", 0)).toEqual(new Set(["encoder.norm.weight", "encoder.norm.bias", "head.weight", "head.bias"]));
    expect(() => trained("none", 4)).toThrow("lastBlocks is 4, but the encoder has 3 blocks");
    const swin = new Classifier(new SwinTransformer(swinConfig), 4, { ...head, pool: "mean" });
    freezeParts(swin, { freeze: "none", lastBlocks: 2 });
    const names = classifierGroups(swin, 1).flatMap((group) => group.names);
    expect(names.some((name) => name.startsWith("encoder.layers.1.blocks.0"))).toBe(true);
    expect(names.some((name) => /layers\.0|downsample|patch_embed/.test(name))).toBe(false);
  });
});

describe("the settings", () => {
  it("of every preset are whole", () => {
    for (const preset of finetunePresetNames) expect(finetunePlan({ preset }).epochs, preset).toBeGreaterThan(0);
    expect(finetunePlan({ preset: "mae" })).toMatchObject({
      layerDecay: 0.65,
      mixup: 0.8,
      erase: 0.25,
      poolNorm: "new",
      ema: null,
    });
    expect(finetunePlan({ preset: "cae" }).baseLr * (4096 / 256)).toBeCloseTo(8e-3, 12);
    expect(finetunePlan({ preset: "deit" }).baseLr * (1024 / 256)).toBeCloseTo((5e-4 * 1024) / 512, 12);
    expect(finetunePlan({ preset: "moco-v3", sets: ["epochs=3", "crop.scale=[0.5,1]"] })).toMatchObject({
      epochs: 3,
      ema: 0.99996,
      crop: { scale: [0.5, 1], interpolation: "bicubic" },
    });
  });

  it("are refused all at once, with the nearest key", () => {
    const wrong = () => finetunePlan({ sets: ["layerDeca=0.5", "dropPath=2", "randAugment=rand-x1", "pool=avg"] });
    expect(wrong).toThrow(/layerDecay/);
    expect(wrong).toThrow(/dropPath/);
    expect(wrong).toThrow(/rand-m9-mstd0.5-inc1/);
    expect(wrong).toThrow(/pool/);
  });

  it("make the views: crop, flip, RandAugment that fills with the mean colour", () => {
    const plan = {
      channels: 3,
      mean: [0.485, 0.456, 0.406],
      std: [1, 1, 1],
      views: [{ name: "image", size: [32, 24], crops: [[]] }],
    } as const;
    const [view] = trainingViews(finetunePlan({ preset: "mae" }), plan).views;
    expect(view).toMatchObject({ name: "image", size: [32, 24] });
    expect(view!.crops[0]!.map(({ op }) => op)).toEqual(["randomResizedCrop", "horizontalFlip", "randAugment"]);
    expect(view!.crops[0]![2]).toMatchObject({
      magnitude: 9,
      std: 0.5,
      increasing: true,
      fill: [124, 116, 104],
      interpolation: "bicubic",
    });
    const [plain] = trainingViews(finetunePlan({ changes: { flip: 0 } }), plan).views;
    expect(plain!.crops[0]!.map(({ op }) => op)).toEqual(["randomResizedCrop"]);
  });
});
testRegenerates("finetune", ["torch", "timm", "numpy"]);
