import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Augmenter, randomBox } from "./augment.js";
import type { Pixels } from "./pixels.js";
import { Rng } from "./rng.js";
import {
  centerCrop,
  colorJitter,
  gaussianBlur,
  grayscale,
  horizontalFlip,
  randomResizedCrop,
  resize,
  type Size,
  solarize,
  type Transform,
} from "./transforms.js";
import { checkPlan, dinoViews, evalViews, mocoViews, plainViews, type ViewPlan, viewBytes } from "./views.js";

/** Pixel (x, y) of channel c has the value x + 10 y + 100 c. */
function ramp(width: number, height: number, channels: 1 | 3): Pixels {
  const data = new Uint8Array(width * height * channels);
  let i = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) data[i++] = x + 10 * y + 100 * c;
  return { width, height, channels, data };
}

function noise(width: number, height: number, channels: 1 | 3): Pixels {
  const rng = new Rng(width * 1000 + height);
  return { width, height, channels, data: Uint8Array.from({ length: width * height * channels }, () => rng.intBelow(256)) };
}

function plan(size: Size, crops: Transform[][], channels: 1 | 3 = 1): ViewPlan {
  const each = Array<number>(channels).fill(0.5);
  return { channels, mean: each, std: each, views: [{ name: "v", size, crops }] };
}

function run(image: Pixels, plan: ViewPlan, { seed = 1, epoch = 0, sample = 0 } = {}): Uint8Array[] {
  const outs = plan.views.map((view) => new Uint8Array(viewBytes(plan, view)));
  new Augmenter(plan, seed).run(image, epoch, sample, outs, 0, 1);
  return outs;
}

const flip = horizontalFlip({ p: 1 });

describe("geometry", () => {
  it("an identity resize, and no step at all, return the image in planes", () => {
    for (const steps of [[], [resize()], [resize({ size: [5, 7], interpolation: "bicubic" })], [centerCrop()]]) {
      const [out] = run(ramp(7, 5, 3), plan([5, 7], [steps], 3));
      for (let c = 0; c < 3; c++)
        for (let y = 0; y < 5; y++) for (let x = 0; x < 7; x++) expect(out![c * 35 + y * 7 + x]).toBe(x + 10 * y + 100 * c);
    }
  });

  it("flips twice to where it was, before or after colours", () => {
    const image = noise(9, 9, 3);
    const steps = [randomResizedCrop(), colorJitter({ hue: 0.2, contrast: 0.5 }), gaussianBlur()];
    const [straight] = run(image, plan([9, 9], [steps], 3));
    expect(run(image, plan([9, 9], [[...steps, flip, flip]], 3))[0]).toEqual(straight);
    const [flipped] = run(image, plan([9, 9], [[...steps, flip]], 3));
    for (let i = 0; i < flipped!.length; i++) expect(flipped![i]).toBe(straight![i - (i % 9) + 8 - (i % 9)]);
  });

  it("cuts the middle and adds black where the image is smaller, as torchvision does", () => {
    const [inner] = run(ramp(7, 5, 1), plan([3, 3], [[centerCrop()]]));
    expect([...inner!]).toEqual([12, 13, 14, 22, 23, 24, 32, 33, 34]);
    const [outer] = run(ramp(2, 4, 1), plan([3, 5], [[centerCrop()]]));
    // Width 2 -> 5: 1 left, 2 right. Height 4 -> 3: round(0.5) = 0 rows off the top.
    expect([...outer!]).toEqual([0, 0, 1, 0, 0, 0, 10, 11, 0, 0, 0, 20, 21, 0, 0]);
    const [mirrored] = run(ramp(2, 4, 1), plan([3, 5], [[centerCrop(), flip]]));
    expect([...mirrored!]).toEqual([0, 0, 1, 0, 0, 0, 0, 11, 10, 0, 0, 0, 21, 20, 0]);
  });

  it("resizes the shorter side and then cuts, as one step", () => {
    const image = noise(50, 30, 3);
    const [whole] = run(image, plan([18, 30], [[resize({ size: [18, 30] })]], 3));
    const [cut] = run(image, plan([16, 16], [[resize({ size: 18 }), centerCrop()]], 3));
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < 16; y++)
        for (let x = 0; x < 16; x++) {
          expect(cut![c * 256 + y * 16 + x]).toBe(whole![c * 540 + (y + 1) * 30 + x + 7]);
        }
  });

  it("keeps the random box inside, within scale and ratio", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 300 }), fc.nat(), (width, height, seed) => {
        const { left, top, right, bottom } = randomBox(width, height, [0.2, 0.5], [0.75, 4 / 3], new Rng(seed));
        expect(Number.isInteger(left) && Number.isInteger(top) && left >= 0 && top >= 0).toBe(true);
        expect(right <= width && bottom <= height && right > left && bottom > top).toBe(true);
        const [w, h] = [right - left, bottom - top];
        if (Math.min(width, height) > 100 && width / height < 1.3 && height / width < 1.3) {
          expect(Math.abs(w * h - 0.35 * width * height)).toBeLessThan(0.16 * width * height);
          expect(w / h > 0.73 && w / h < 1.37).toBe(true);
        }
      }),
    );
  });

  it("falls back to the central crop where no ratio fits", () => {
    expect(randomBox(1000, 10, [0.9, 1], [0.75, 4 / 3], new Rng(1))).toEqual({ left: 493, top: 0, right: 506, bottom: 10 });
    expect(randomBox(10, 1000, [0.9, 1], [0.75, 4 / 3], new Rng(1))).toEqual({ left: 0, top: 493, right: 10, bottom: 506 });
  });
});

describe("channels", () => {
  it("stay one for grey plans, by luma from RGB, and become three from grey", () => {
    const rgb: Pixels = { width: 1, height: 1, channels: 3, data: Uint8Array.of(200, 100, 50) };
    expect([...run(rgb, plan([1, 1], [[]]))[0]!]).toEqual([124]);
    const grey: Pixels = { width: 1, height: 1, channels: 1, data: Uint8Array.of(77) };
    expect([...run(grey, plan([1, 1], [[]], 3))[0]!]).toEqual([77, 77, 77]);
  });

  it("hue, saturation and greyscale leave grey pictures alone", () => {
    const image = noise(8, 8, 1);
    const steps = [colorJitter({ hue: 0.5, saturation: 0.9 }), grayscale({ p: 1 })];
    expect(run(image, plan([8, 8], [steps]))[0]).toEqual(image.data);
    const [three] = run(image, plan([8, 8], [steps], 3));
    expect(three!.subarray(64, 128)).toEqual(image.data);
  });
});

describe("random choices", () => {
  it("differ by seed, epoch, sample and crop, and by nothing else", () => {
    const image = noise(40, 40, 3);
    const crop = [
      randomResizedCrop(),
      horizontalFlip(),
      colorJitter({ brightness: 0.5 }),
      gaussianBlur({ p: 0.5 }),
      solarize({ p: 0.5 }),
    ];
    const two = plan([8, 8], [crop, crop], 3);
    const [base] = run(image, two);
    expect(run(image, two)[0]).toEqual(base);
    expect(base!.subarray(0, 192)).not.toEqual(base!.subarray(192));
    for (const other of [{ seed: 2 }, { epoch: 1 }, { sample: 1 }]) expect(run(image, two, other)[0]).not.toEqual(base);
  });

  it("are shared by crops with the same key, also across views of different size", () => {
    const image = noise(64, 64, 1);
    const steps = (interpolation: "bicubic" | "lanczos"): Transform[] => [
      randomResizedCrop({ scale: [0.3, 0.6], interpolation, key: "crop" }),
      horizontalFlip({ key: "crop" }),
    ];
    const shared = (second: Transform[]): ViewPlan => ({
      ...plan([16, 16], [steps("bicubic")]),
      views: [
        { name: "model", size: [16, 16], crops: [steps("bicubic"), steps("bicubic")] },
        { name: "target", size: [8, 8], crops: [second] },
      ],
    });
    for (let sample = 0; sample < 8; sample++) {
      const [model, target] = run(image, shared(steps("lanczos")), { sample });
      expect(model!.subarray(0, 256)).toEqual(model!.subarray(256));
      // The small view shows the same crop: its pixels are near the 2x2 means of the large one.
      let difference = 0;
      for (let y = 0; y < 8; y++)
        for (let x = 0; x < 8; x++) {
          const at = 2 * y * 16 + 2 * x;
          const mean = (model![at]! + model![at + 1]! + model![at + 16]! + model![at + 17]!) / 4;
          difference += Math.abs(mean - target![y * 8 + x]!) / 64;
        }
      expect(difference).toBeLessThan(20);
    }
  });

  it("occur as often as they are asked to", () => {
    const image = ramp(4, 1, 1);
    const augmenter = new Augmenter(plan([1, 4], [[horizontalFlip({ p: 0.3 })]]), 1);
    const out = [new Uint8Array(4)];
    let flips = 0;
    for (let sample = 0; sample < 10_000; sample++) {
      augmenter.run(image, 0, sample, out, 0, 1);
      if (out[0]![0] === 3) flips++;
    }
    expect(Math.abs(flips - 3000)).toBeLessThan(200);
  });

  it("colour jitter changes the order of its changes", () => {
    const image = noise(6, 6, 3);
    const results = new Set<string>();
    const same = plan(
      [6, 6],
      [[colorJitter({ brightness: [1.6, 1.6], contrast: [0.4, 0.4], saturation: [1.8, 1.8], hue: [0.2, 0.2] })]],
      3,
    );
    for (let sample = 0; sample < 400; sample++) results.add(run(image, same, { sample })[0]!.join());
    expect(results.size).toBeGreaterThan(12);
    expect(results.size).toBeLessThanOrEqual(24);
  });
});

describe("layout", () => {
  it("writes a sample into its row of [count][B][C][H][W] and nowhere else", () => {
    const three = plan([4, 5], [[resize()], [resize(), flip]], 3);
    const [alone] = run(noise(9, 9, 3), three);
    const batch = new Uint8Array(2 * 3 * 60).fill(7);
    new Augmenter(three, 1).run(noise(9, 9, 3), 0, 0, [batch], 1, 3);
    for (let crop = 0; crop < 2; crop++) {
      for (let row = 0; row < 3; row++) {
        const part = batch.subarray((crop * 3 + row) * 60, (crop * 3 + row + 1) * 60);
        expect(part).toEqual(row === 1 ? alone!.subarray(crop * 60, (crop + 1) * 60) : new Uint8Array(60).fill(7));
      }
    }
  });
});

describe("plans", () => {
  it("the presets are valid, survive JSON, and have the published numbers", () => {
    for (const preset of [
      dinoViews(),
      mocoViews(),
      plainViews(),
      evalViews(),
      evalViews({ size: 32, resize: "exact" }),
      dinoViews({ channels: 1, locals: 0 }),
    ]) {
      checkPlan(preset);
      expect(JSON.parse(JSON.stringify(preset))).toEqual(preset);
    }
    const dino = dinoViews();
    expect(dino.views.map(({ name, size, crops }) => [name, size, crops.length])).toEqual([
      ["global", [224, 224], 2],
      ["local", [96, 96], 8],
    ]);
    expect(dino.views[0]!.crops.map((crop) => crop.map((step) => step.op).join(" "))).toEqual([
      "randomResizedCrop horizontalFlip colorJitter grayscale gaussianBlur",
      "randomResizedCrop horizontalFlip colorJitter grayscale gaussianBlur solarize",
    ]);
    expect(evalViews().views[0]!.crops[0]).toEqual([{ op: "resize", size: 256, interpolation: "bicubic" }, { op: "centerCrop" }]);
  });

  it.each<[string, ViewPlan, RegExp]>([
    ["wrong channels", { ...plan([4, 4], [[]]), channels: 2 as 1 }, /channels is 2/],
    ["wrong mean", { ...plan([4, 4], [[]]), mean: [1, 2] }, /mean has 2 values for 1 channels/],
    ["no crops", plan([4, 4], []), /no crops/],
    ["no size", plan([4, 0], [[]]), /size \[4,0\]/],
    ["two crops", plan([4, 4], [[randomResizedCrop(), centerCrop()]]), /randomResizedCrop, centerCrop; expected/],
    ["late crop", plan([4, 4], [[grayscale(), randomResizedCrop()]]), /after a change of colour/],
    ["open resize", plan([4, 4], [[resize({ size: 8 })]]), /resizes to 8.*add centerCrop/],
  ])("refuses %s", (_, wrong, message) => {
    expect(() => checkPlan(wrong)).toThrow(message);
  });

  it("transforms refuse values that make no sense", () => {
    expect(() => horizontalFlip({ p: 2 })).toThrow(/p is 2/);
    expect(() => randomResizedCrop({ scale: [0.5, 0.1] })).toThrow(/scale is \[0.5, 0.1\]/);
    expect(() => randomResizedCrop({ scale: [0, 1] })).toThrow(/scale/);
    expect(() => colorJitter({ hue: 0.6 })).toThrow(/hue/);
    expect(() => gaussianBlur({ sigma: [0, 1] })).toThrow(/sigma/);
    expect(() => resize({ size: 0 })).toThrow(/size is 0/);
    expect(() => solarize({ threshold: 300 })).toThrow(/threshold is 300/);
  });
});
