// Scores against tests/reference/miou.py; windows, mirror images and sizes by what must hold; schedules and settings.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readGolden, testRegenerates } from "../../../tests/reference/golden.js";
import { segmentationPlan } from "../../data/index.js";
import { Segmenter, SwinTransformer, VisionTransformer } from "../../models/index.js";
import { cat, manualSeed, noGrad, pad, randn, type Tensor, tensor, tidy } from "../../torch/index.js";
import { PixelConfusion, segmentationScores } from "./confusion.js";
import { type InferenceOptions, predict, scoresOf, slidingScores, windowStarts } from "./infer.js";
import { polySchedule } from "./poly.js";
import { savedTest, segmentPlan, segmentPresetNames } from "./settings.js";
import { segmenterGroups, testOf } from "./task.js";

interface Case {
  classes: number;
  truths: number[][];
  predictions: number[][];
  ious: (number | null)[];
  accuracies: (number | null)[];
  mIoU: number;
  meanAccuracy: number;
  pixelAccuracy: number;
}
const golden = readGolden<Record<string, Case>>("miou");

describe("scores", () => {
  for (const [name, expected] of Object.entries(golden)) {
    it(`equal numpy's: ${name}`, () => {
      const confusion = new PixelConfusion(expected.classes);
      const map = (values: number[]) => tensor(values, { dtype: "int64" }).view([5, -1]);
      for (const [i, truth] of expected.truths.entries()) confusion.add(map(truth), map(expected.predictions[i]!));
      const names = Array.from({ length: expected.classes }, (_, i) => `class ${i}`);
      const scores = segmentationScores(confusion.counts, names);
      for (const key of ["mIoU", "meanAccuracy", "pixelAccuracy"] as const) expect(scores[key]).toBeCloseTo(expected[key], 12);
      for (const [i, { name, iou, accuracy }] of scores.classes.entries()) {
        expect(name).toBe(`class ${i}`);
        for (const [own, other] of [
          [iou, expected.ious[i]],
          [accuracy, expected.accuracies[i]],
        ] as const) {
          if (other === null) expect(own).toBeNull();
          else expect(own).toBeCloseTo(other!, 12);
        }
      }
    });
  }
  testRegenerates("miou", ["torch", "numpy"]);

  it("of pixels without any class are refused", () => {
    const confusion = new PixelConfusion(2);
    confusion.add(tensor([255, 255], { dtype: "int64" }), tensor([0, 1], { dtype: "int64" }));
    expect(() => segmentationScores(confusion.counts, ["a", "b"])).toThrow("No pixel of the test images has a class");
  });
});

const scale = segmentationPlan({ size: 16 });
const vit = (config = {}) => new VisionTransformer({ imageSize: 16, patchSize: 4, width: 8, heads: 2, depth: 2, ...config });
const model = () => {
  manualSeed(3);
  return new Segmenter(vit(), { classes: 3, head: "fcn", channels: 8 }).eval();
};
const options: InferenceOptions = {
  mode: "slide",
  window: [16, 16],
  stride: 10,
  fit: { short: 24, long: null },
  flip: false,
  scales: [1],
  bf16: false,
};
const pixels = (height: number, width: number) => ({
  width,
  height,
  channels: 3 as const,
  data: Uint8Array.from({ length: 3 * height * width }, (_, i) => (i * 7919 + i * i * 31) % 256),
});
const apart = (a: Tensor, b: Tensor) => a.sub(b).abs().amax().item();

describe("windows", () => {
  it("begin as mmsegmentation's", () => {
    expect(windowStarts(512, 512, 341)).toEqual([0]);
    expect(windowStarts(683, 512, 341)).toEqual([0, 171]);
    expect(windowStarts(1024, 512, 341)).toEqual([0, 341, 512]);
    expect(windowStarts(100, 512, 341)).toEqual([0]);
  });
  it("cover every pixel, inside the image", () => {
    const positive = fc.integer({ min: 1, max: 600 });
    fc.assert(
      fc.property(positive, positive, positive, (length, window, step) => {
        const stride = Math.min(step, window);
        const starts = windowStarts(length, window, stride);
        let reached = 0;
        for (const start of starts) {
          expect(start).toBeLessThanOrEqual(reached);
          reached = Math.max(reached, start + Math.min(window, length));
        }
        expect(reached).toBe(length);
      }),
    );
  });

  it("average what each of them says of a pixel", () => {
    tidy(() =>
      noGrad(() => {
        const segmenter = model();
        const images = randn([1, 3, 16, 26]);
        const [left, right] = [0, 10].map((at) => scoresOf(segmenter, images.narrow(3, at, 16)));
        const both = left!
          .narrow(3, 10, 6)
          .add(right!.narrow(3, 0, 6))
          .div(2);
        const expected = cat([left!.narrow(3, 0, 10), both, right!.narrow(3, 6, 10)], 3);
        expect(apart(slidingScores(segmenter, images, options), expected)).toBeLessThan(1e-5);
        // An image smaller than the window is filled up to it.
        const little = images.narrow(2, 0, 9).narrow(3, 0, 13);
        const filled = scoresOf(segmenter, pad(little, [0, 3, 0, 7]))
          .narrow(2, 0, 9)
          .narrow(3, 0, 13);
        expect(apart(slidingScores(segmenter, little, options), filled)).toBeLessThan(1e-5);
        // One window is the whole image.
        const one = slidingScores(segmenter, images, { ...options, window: [16, 26] });
        expect(apart(one, scoresOf(segmenter, images))).toBeLessThan(1e-5);
      }),
    );
  });
});

describe("scores of an image", () => {
  it("have its own size, whatever the patches", () => {
    for (const [height, width] of [
      [16, 16],
      [17, 30],
      [5, 9],
    ] as const) {
      // biome-ignore format: sizes
      expect(noGrad(() => scoresOf(model(), randn([2, 3, height, width]))).shape).toEqual([2, 3, height, width]);
    }
    const swin = new SwinTransformer({ imageSize: 32, embedDim: 4, depths: [1, 1, 1, 1], heads: [1, 1, 1, 1], windowSize: 2 });
    const over = new Segmenter(swin, { classes: 3, head: "upernet", channels: 4, auxiliaryChannels: 0 }).eval();
    expect(noGrad(() => scoresOf(over, randn([1, 3, 37, 41]))).shape).toEqual([1, 3, 37, 41]);
  });

  it("classes come at the size of the file, whole and by windows, mirrored and at several sizes, also in bfloat16", () => {
    const segmenter = model();
    const image = pixels(30, 41);
    for (const change of [{}, { mode: "whole" }, { flip: true }, { scales: [0.75, 1.5] }, { bf16: true }] as const) {
      const classes = predict(segmenter, image, scale, { ...options, ...change });
      expect([classes.dtype, classes.shape]).toEqual(["int64", [30, 41]]);
      expect(classes.amax().item()).toBeLessThan(3);
      classes.dispose();
    }
  });

  it("with its mirror image, an image and its mirror image get mirrored classes", () => {
    const segmenter = model();
    const image = pixels(24, 32);
    const mirrored = { ...image, data: image.data.slice() };
    for (let y = 0; y < 24; y++) {
      for (let x = 0; x < 32; x++) {
        mirrored.data.set(image.data.subarray(3 * (y * 32 + x), 3 * (y * 32 + x) + 3), 3 * (y * 32 + 31 - x));
      }
    }
    const classes = (of: typeof image, flip: boolean) => predict(segmenter, of, scale, { ...options, mode: "whole", flip });
    const share = (flip: boolean) => classes(mirrored, flip).flip(1).eq(classes(image, flip)).float().mean().item();
    expect(share(true)).toBeGreaterThan(0.995);
    expect(share(false)).toBeLessThan(0.99);
  });
});

describe("settings of segmentation", () => {
  it("presets hold, and are changed by path", () => {
    for (const preset of segmentPresetNames) expect(segmentPlan({ preset }).batchSize).toBeGreaterThan(0);
    const cae = segmentPlan({ preset: "cae", sets: ["lr=3e-4", "test.flip=true", "head.levels=[1,2,3,4]"] });
    expect(cae).toMatchObject({ lr: 3e-4, layerDecay: 0.65, relPosBias: "block", iterations: 160000 });
    expect(cae.head).toMatchObject({ kind: "upernet", channels: "width", auxiliaryWeight: 0.4, levels: [1, 2, 3, 4] });
    expect(testOf(cae)).toEqual({
      mode: "slide",
      window: [512, 512],
      stride: 341,
      fit: { short: 512, long: 2048 },
      flip: true,
      scales: [1],
    });
    expect(testOf(segmentPlan())).toMatchObject({ window: [224, 224], stride: 149 });
    expect(segmentPlan({ preset: "linear" })).toMatchObject({ frozen: true, head: { kind: "linear" } });
  });
  it("all mistakes are told at once, with the nearest key", () => {
    expect(() => segmentPlan({ sets: ["iteration=5", "head.kind=upernett", "crop=0"] })).toThrow(
      /the settings of segmentation has 3 problems[\s\S]*did you mean "upernet"[\s\S]*did you mean iterations/,
    );
  });
  it("a trained segmenter is tested as it was saved, or by what is changed", () => {
    const { bf16: _, ...saved } = options;
    expect(savedTest(saved)).toEqual({ test: saved, pictures: 8 });
    expect(savedTest(saved, ["test.mode=whole", "test.scales=[1,2]", "pictures=0"])).toEqual({
      test: { ...saved, mode: "whole", scales: [1, 2] },
      pictures: 0,
    });
    expect(() => savedTest(saved, ["lr=1"])).toThrow(/the settings of a measurement: lr is unknown/);
  });
  it("the learning rate rises and falls as mmcv's", () => {
    const rate = polySchedule({ lr: 2, minLr: 0.5, power: 2, iterations: 100, warmup: 10, warmupRatio: 0.1 });
    const poly = (t: number) => 1.5 * (1 - t / 100) ** 2 + 0.5;
    expect(rate(0)).toBeCloseTo(0.1 * poly(0), 12);
    expect(rate(5)).toBeCloseTo(0.55 * poly(5), 12);
    expect(rate(10)).toBeCloseTo(poly(10), 12);
    expect(rate(100)).toBe(0.5);
    expect(rate(1000)).toBe(0.5);
  });
  it("layers of the encoder learn more slowly, what is frozen not at all", () => {
    const groups = (config: object, decay: number) =>
      segmenterGroups(
        new Segmenter(vit({ depth: 3 }), { classes: 3, head: "upernet", channels: 4, auxiliaryChannels: 4, ...config }),
        decay,
      );
    const scaleOf = (name: string) => groups({}, 0.5).find(({ names }) => names.includes(name))!.lrScale;
    expect(scaleOf("backbone.encoder.pos_embed")).toBe(0.5 ** 4);
    expect(scaleOf("backbone.encoder.blocks.2.attn.qkv.weight")).toBe(0.5);
    expect(scaleOf("backbone.fpn1.0.weight")).toBe(1);
    expect(scaleOf("decode_head.conv_seg.weight")).toBe(1);
    const frozen = groups({ frozen: true, head: "linear" }, 0.5).flatMap(({ names }) => names);
    expect(frozen.every((name) => name.startsWith("decode_head."))).toBe(true);
    const swin = new SwinTransformer({ imageSize: 32, embedDim: 4, depths: [1, 1, 1, 1], heads: [1, 1, 1, 1], windowSize: 2 });
    const over = segmenterGroups(new Segmenter(swin, { classes: 3, head: "upernet", channels: 4 }), 0.5);
    const rate = (name: string) => over.find(({ names }) => names.includes(name))!.lrScale;
    expect(rate("backbone.encoder.layers.3.blocks.0.mlp.fc1.weight")).toBe(0.5);
    expect(rate("backbone.norm0.weight")).toBe(1);
  });
});
