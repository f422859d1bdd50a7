// RandAugment's operations and arguments against timm's (tests/reference/rand_augment.py), and what the transform draws.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readGolden, testRegenerates } from "../../tests/reference/golden.js";
import { Augmenter } from "./augment.js";
import type { Pixels } from "./pixels.js";
import { applyRandAugmentOp, type RandAugmentOp, randAugmentArgument, randAugmentOps } from "./rand-augment.js";
import { Rng } from "./rng.js";
import { parseRandAugment, randAugment, randomResizedCrop, type Transform } from "./transforms.js";
import { checkPlan, type ViewPlan, viewBytes } from "./views.js";

const golden = readGolden<{
  operations: {
    op: RandAugmentOp;
    argument: number;
    resample: "bilinear" | "bicubic";
    channels: 1 | 3;
    rough: boolean;
    size: [number, number];
    data: string;
  }[];
  levels: Record<string, number[]>;
}>("rand_augment");

/** picture() of rand_augment.py, in planes. */
function picture(width: number, height: number, channels: number, rough: boolean, narrow: boolean): Uint8Array {
  const out = new Uint8Array(width * height * channels);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        let value = (x * 5 + y * 3 + c * 70 + Math.floor((x * y) / 9)) % 511;
        if (value > 255) value = 510 - value;
        if (rough) value = (x * 97 + y * 57 + c * 131 + Math.floor((x * x * 31) / 7) + ((y * y * x) % 251)) % 256;
        out[(c * height + y) * width + x] = narrow ? 60 + Math.floor((value * 3) / 8) : value;
      }
  return out;
}

function noise(width: number, height: number, channels: 1 | 3): Pixels {
  const rng = new Rng(width * 1000 + height);
  return { width, height, channels, data: Uint8Array.from({ length: width * height * channels }, () => rng.intBelow(256)) };
}

function planOf(transforms: Transform[], channels: 1 | 3 = 3, size = 16): ViewPlan {
  const each = Array<number>(channels).fill(0.5);
  return { channels, mean: each, std: each, views: [{ name: "v", size: [size, size], crops: [transforms] }] };
}

function run(image: Pixels, plan: ViewPlan, { seed = 1, epoch = 0, sample = 0 } = {}): Uint8Array {
  const out = new Uint8Array(viewBytes(plan, plan.views[0]!));
  new Augmenter(plan, seed).run(image, epoch, sample, [out], 0, 1);
  return out;
}

describe("the operations", () => {
  for (const op of randAugmentOps) {
    it(`${op} equals timm's in every grey level`, () => {
      const cases = golden.operations.filter((each) => each.op === op);
      expect(cases.length).toBeGreaterThan(1);
      for (const { argument, resample, channels, rough, size, data } of cases) {
        const [width, height] = size;
        const own = picture(width, height, channels, rough, op === "autoContrast" || op === "equalize");
        const framed = new Uint8Array(own.length + 10).fill(77);
        framed.set(own, 5);
        const fill = channels === 3 ? [124, 116, 104] : [116];
        applyRandAugmentOp(op, argument, { data: framed, at: 5, height, width, channels }, { interpolation: resample, fill });
        const expected = Buffer.from(data, "base64");
        const made = framed.subarray(5, 5 + own.length);
        expect(Buffer.compare(Buffer.from(made), expected), `${argument} ${resample} ${channels}`).toBe(0);
        expect([...framed.subarray(0, 5), ...framed.subarray(5 + own.length)].every((value) => value === 77)).toBe(true);
      }
    });
  }

  it("leave a picture of one colour without histogram as it is", () => {
    for (const op of ["autoContrast", "equalize"] as const) {
      const flat = new Uint8Array(60).fill(31);
      applyRandAugmentOp(
        op,
        0,
        { data: flat, at: 0, height: 4, width: 5, channels: 3 },
        { interpolation: "bicubic", fill: [0, 0, 0] },
      );
      expect(flat.every((value) => value === 31)).toBe(true);
    }
  });

  it("no angle, no shear and no shift change nothing", () => {
    fc.assert(
      fc.property(fc.constantFrom("rotate", "shearX", "shearY", "translateX", "translateY" as const), fc.nat(50), (op, seed) => {
        const rng = new Rng(seed);
        const data = Uint8Array.from({ length: 7 * 9 }, () => rng.intBelow(256));
        const before = data.slice();
        const crop = { data, at: 0, height: 7, width: 9, channels: 1 as const };
        applyRandAugmentOp(op as RandAugmentOp, 0, crop, { interpolation: "bicubic", fill: [0] });
        expect(data).toEqual(before);
      }),
    );
  });

  it("a quarter turn moves every pixel to its place", () => {
    const data = Uint8Array.from({ length: 25 }, (_, i) => i);
    applyRandAugmentOp(
      "rotate",
      90,
      { data, at: 0, height: 5, width: 5, channels: 1 },
      { interpolation: "bilinear", fill: [99] },
    );
    for (let y = 0; y < 5; y++) for (let x = 0; x < 5; x++) expect(data[y * 5 + x]).toBe(x * 5 + 4 - y);
  });
});

describe("the arguments", () => {
  it("follow timm's scales, both kinds and both signs", () => {
    for (const [key, expected] of Object.entries(golden.levels)) {
      const [op, increasing, negative] = key.split(" ") as [RandAugmentOp, string, string];
      const strengths = [0, 0.37, 4.99, 7.5, 9, 9.61, 10];
      for (const [i, strength] of strengths.entries()) {
        const given = randAugmentArgument(op, strength, increasing === "True", negative === "True");
        expect(given, `${key} at ${strength}`).toBeCloseTo(expected[i]!, 12);
      }
    }
  });

  it("are read from timm's text", () => {
    expect(parseRandAugment("rand-m9-mstd0.5-inc1")).toEqual({ magnitude: 9, std: 0.5, layers: 2, p: 0.5, increasing: true });
    expect(parseRandAugment("rand-n3-m7-p0.8")).toEqual({ magnitude: 7, std: 0, layers: 3, p: 0.8, increasing: false });
    for (const text of ["augmix", "rand-m9-w0", "rand-m", "rand-magnitude9", "rand-m11", "rand-p2", "rand-n0", ""]) {
      expect(() => parseRandAugment(text), text).toThrow(/RandAugment|randAugment/);
    }
  });

  it("that make no sense are refused", () => {
    expect(() => randAugment({ magnitude: 11 })).toThrow("magnitude is 11; expected 0 to 10");
    expect(() => randAugment({ std: -1 })).toThrow("std is -1");
    expect(() => randAugment({ layers: 1.5 })).toThrow("layers is 1.5");
    expect(() => randAugment({ p: 2 })).toThrow("p is 2");
    expect(() => randAugment({ fill: [0, 300, 0] })).toThrow("fill is 300");
    expect(() => randAugment({ fill: [] })).toThrow("fill is empty");
    expect(() => checkPlan(planOf([randAugment({ fill: [1] })]))).toThrow("fewer fill levels than the 3 channels");
  });
});

describe("the transform", () => {
  it("is a function of seed, epoch and sample", () => {
    const image = noise(16, 16, 3);
    const plan = planOf([randAugment({ p: 1, layers: 3 })]);
    const base = run(image, plan);
    expect(run(image, plan)).toEqual(base);
    const others = [{ seed: 2 }, { epoch: 1 }, { sample: 1 }].map((at) => run(image, plan, at));
    for (const other of others) expect(other).not.toEqual(base);
  });

  it("comes after the crop and leaves what is drawn before it alone", () => {
    const image = noise(40, 30, 3);
    const crop = randomResizedCrop({ scale: [0.3, 0.6] });
    expect(run(image, planOf([crop, randAugment({ p: 0 })]))).toEqual(run(image, planOf([crop])));
    expect(() => checkPlan(planOf([randAugment(), crop]))).toThrow("crops or resizes after a change of colour");
  });

  it("draws every operation about equally often, half of them carried out", () => {
    // Of a ramp, most operations can be told from their result; here only how many crops stay as they are is counted.
    const image = noise(8, 8, 1);
    const augmenter = new Augmenter(planOf([randAugment({ layers: 1, p: 0.5, magnitude: 9, std: 0 })], 1, 8), 3);
    let same = 0;
    for (let sample = 0; sample < 2000; sample++) {
      const out = [new Uint8Array(64)];
      augmenter.run(image, 0, sample, out, 0, 1);
      if (out[0]!.every((value, i) => value === image.data[i])) same++;
    }
    // Half of them, and of the other half colour (nothing to do in grey), equalize and autoContrast (noise has all of its range or little to gain).
    expect(same).toBeGreaterThan(1000);
    expect(same).toBeLessThan(1270);
  });

  it("works on grey images, whose one fill level is the first", () => {
    const image = noise(12, 12, 1);
    const out = run(image, planOf([randAugment({ p: 1, layers: 8 })], 1, 12));
    expect(out.length).toBe(144);
  });
});
testRegenerates("rand_augment", ["torch", "timm", "PIL"]);
