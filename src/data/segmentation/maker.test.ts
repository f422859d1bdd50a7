// What is made of an image and its mask: both go the same way, every choice is a function of (seed, epoch, sample).
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Pixels } from "../pixels.js";
import { resizedPlanes, SegmentationMaker } from "./maker.js";
import { fitted, type SegmentationPlanOptions, segmentationPlan } from "./plan.js";

/** An image whose three channels say the class of each pixel: 40 a class. */
function labelled(height: number, width: number, labelAt: (y: number, x: number) => number): Pixels {
  const labels = Uint8Array.from({ length: height * width }, (_, i) => labelAt(Math.floor(i / width), i % width));
  const data = new Uint8Array(3 * labels.length);
  for (const [i, label] of labels.entries()) data.fill(40 * label, 3 * i, 3 * i + 3);
  return { width, height, channels: 3, data, labels };
}

function make(image: Pixels, options: SegmentationPlanOptions, { seed = 0, epoch = 0, sample = 0 } = {}) {
  const plan = segmentationPlan({ distort: false, normalization: { mean: [0.2, 0.4, 0.6], std: [1, 1, 1] }, ...options });
  const [height, width] = plan.size;
  const outs = [new Uint8Array(2 * plan.channels * height * width), new Uint8Array(2 * height * width)] as const;
  new SegmentationMaker(plan, seed).run(image, epoch, sample, outs, 1);
  return { image: outs[0].subarray(plan.channels * height * width), labels: outs[1].subarray(height * width), first: outs[0][0] };
}

const checks = labelled(24, 30, (y, x) => (Math.floor(y / 6) + Math.floor(x / 5)) % 5);

describe("sizes", () => {
  test("as mmcv's imrescale has them", () => {
    const ade = { short: 512, long: 2048 };
    expect(fitted(480, 640, ade)).toEqual([512, 683]);
    expect(fitted(640, 480, ade)).toEqual([683, 512]);
    expect(fitted(300, 3000, ade)).toEqual([205, 2048]);
    expect(fitted(480, 640, ade, 0.5)).toEqual([256, 341]);
    expect(fitted(480, 640, { short: 100, long: null }, 1.337)).toEqual([133, 177]);
    expect(fitted(1, 1000, { short: 64, long: 64 })).toEqual([1, 64]);
  });
  test("neither side passes its bound", () => {
    const side = fc.integer({ min: 1, max: 3000 });
    fc.assert(
      fc.property(side, side, side, fc.integer({ min: 0, max: 2000 }), (height, width, short, more) => {
        const [h, w] = fitted(height, width, { short, long: short + more });
        expect(Math.min(h, w)).toBeLessThanOrEqual(short);
        expect(Math.max(h, w)).toBeLessThanOrEqual(short + more);
      }),
    );
  });
});

describe("crops of images and masks", () => {
  const still: SegmentationPlanOptions = { fit: { short: 24, long: null }, ratio: [1, 1], catMaxRatio: 1 };

  test("at the image's own size every pixel keeps its class, flipped or not", () => {
    const seen = new Set<string>();
    for (let sample = 0; sample < 40; sample++) {
      const { image, labels } = make(checks, { ...still, size: 12 }, { sample });
      for (const [i, label] of labels.entries()) for (const c of [0, 1, 2]) expect(image[c * 144 + i]).toBe(40 * label);
      seen.add(labels.join());
    }
    expect(seen.size).toBeGreaterThan(30);
  });

  test("at another size the class is that of the nearest pixel", () => {
    const whole = { ...still, fit: { short: 48, long: null }, size: [48, 60] as const, flip: 0 };
    const { labels } = make(checks, whole);
    for (const [i, label] of labels.entries()) {
      const [y, x] = [Math.floor(i / 60), i % 60];
      expect(label).toBe(checks.labels![Math.floor(y / 2) * 30 + Math.floor(x / 2)]);
    }
    const flipped = make(checks, { ...whole, flip: 1 }).labels;
    for (const [i, label] of flipped.entries()) expect(label).toBe(labels[i - (i % 60) + 59 - (i % 60)]);
  });

  test("what is missing has the mean colour and no class, also after a flip", () => {
    const { image, labels, first } = make(checks, { ...still, size: [32, 32], flip: 1 });
    expect(first).toBe(0);
    for (let i = 0; i < 1024; i++) {
      const inside = i < 24 * 32 && i % 32 < 30;
      expect(labels[i] === 255).toBe(!inside);
      for (const c of [0, 1, 2]) expect(image[c * 1024 + i]).toBe(inside ? 40 * labels[i]! : [51, 102, 153][c]);
    }
  });

  test("a crop of one class is drawn again where there are others", () => {
    // A narrow band of two classes beside much of one.
    const band = labelled(24, 200, (y, x) => (x < 190 ? 0 : y < 12 ? 1 : 2));
    const share = (catMaxRatio: number) => {
      let mixed = 0;
      for (let sample = 0; sample < 200; sample++) {
        const { labels } = make(band, { ...still, size: 24, catMaxRatio }, { sample });
        const counts = [0, 1, 2].map((label) => labels.filter((each) => each === label).length);
        mixed += Number(Math.max(...counts) / labels.length < 0.75);
      }
      return mixed / 200;
    };
    expect(share(1)).toBeLessThan(0.12);
    expect(share(0.75)).toBeGreaterThan(0.2);
  });

  test("is a function of seed, epoch and sample", () => {
    const bytes = (at: { seed?: number; epoch?: number; sample?: number }) =>
      Buffer.from(make(checks, { size: 16, fit: { short: 24, long: null }, distort: true }, at).image).toString("hex");
    expect(bytes({ sample: 3 })).toBe(bytes({ sample: 3 }));
    const all = [{}, { seed: 1 }, { epoch: 1 }, { sample: 1 }].map(bytes);
    expect(new Set(all).size).toBe(4);
  });

  test("grey images for encoders of three channels, and colours for those of one", () => {
    const grey: Pixels = { ...checks, channels: 1, data: checks.labels!.map((label) => 40 * label) };
    const three = make(grey, { ...still, size: 12 });
    expect([...three.image.subarray(0, 144)]).toEqual([...three.image.subarray(288, 432)]);
    const one = make(checks, { ...still, size: 12, channels: 1, normalization: { mean: [0.5], std: [1] } });
    for (const [i, label] of one.labels.entries()) expect(one.image[i]).toBe(40 * label);
  });

  test("an image resized without chance", () => {
    expect([...resizedPlanes(checks, [24, 30], 3).subarray(0, 720)]).toEqual([...checks.labels!].map((label) => 40 * label));
  });

  test("plans that cannot be carried out are refused", () => {
    expect(() => segmentationPlan({ size: 0 })).toThrow("size is [0,0]; expected [height, width]");
    expect(() => segmentationPlan({ fit: { short: 512, long: 100 } })).toThrow("the shorter side first");
    expect(() => segmentationPlan({ ratio: [2, 0.5] })).toThrow("ratio is [2,0.5]");
    expect(() => segmentationPlan({ catMaxRatio: 0 })).toThrow("catMaxRatio is 0");
    expect(() => segmentationPlan({ flip: 2 })).toThrow("flip is 2");
    const { labels: _, ...without } = checks;
    expect(() => make(without, still)).toThrow("no classes of their pixels");
  });
});
