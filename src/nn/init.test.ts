// Initial values: the streams of PyTorch from the same seed, bounds, and the distribution of truncated normals.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expectClose, readGolden, type Stored, testRegenerates, valuesOf } from "../../tests/reference/golden.js";
import { empty, Generator, manualSeed, noGrad } from "../torch/index.js";
import { Conv2d, ConvTranspose2d, GELU, init, Linear, type Module, Sequential } from "./index.js";

interface Golden {
  truncated: { mean: number; std: number; a: number; b: number; values: Stored; moments: { mean: number; variance: number } }[];
  xavier: Stored;
  "xavier with gain": Stored;
  normal: Stored;
  kaiming: Stored;
  linear: Record<string, Stored>;
  conv: Record<string, Stored>;
  "transposed conv": Record<string, Stored>;
  sequential: Record<string, Stored>;
}
const golden = readGolden<Golden>("nn_init");

describe("the values of PyTorch from the same seed", () => {
  const layers: Record<"linear" | "conv" | "transposed conv" | "sequential", () => Module> = {
    linear: () => new Linear(5, 4),
    conv: () => new Conv2d(4, 6, [3, 2], { groups: 2 }),
    "transposed conv": () => new ConvTranspose2d(4, 6, 3, { groups: 2 }),
    sequential: () => new Sequential(new Linear(3, 4), new GELU(), new Linear(4, 2)),
  };
  for (const [name, make] of Object.entries(layers)) {
    test(`a new ${name}`, () => {
      manualSeed(7);
      const parameters = [...make().namedParameters()];
      const expected = golden[name as keyof typeof layers];
      expect(parameters.map(([key]) => key)).toEqual(Object.keys(expected));
      for (const [key, each] of parameters) expectClose(each, expected[key]!, 1e-7, key);
    });
  }
  test("xavierUniform_", () => {
    manualSeed(7);
    expectClose(init.xavierUniform_(empty([6, 4])), golden.xavier, 1e-7);
    manualSeed(7);
    expectClose(init.xavierUniform_(empty([4, 3, 2, 2]), { gain: 2 }), golden["xavier with gain"], 1e-7);
  });
  test("normal_", () => {
    manualSeed(7);
    expectClose(init.normal_(empty([5, 4]), { mean: 1, std: 0.3 }), golden.normal, 1e-6);
  });
  test("kaimingUniform_", () => {
    manualSeed(7);
    expectClose(init.kaimingUniform_(empty([4, 3, 2, 2])), golden.kaiming, 1e-7);
  });
  for (const { mean, std, a, b, values } of golden.truncated) {
    test(`truncNormal_ of mean ${mean}, std ${std} from ${a} to ${b}`, () => {
      manualSeed(7);
      // The inverse is steep far out, where a float32 rounding of the bounds shows.
      expectClose(init.truncNormal_(empty([40]), { mean, std, a, b }), values, a > 3 ? 1e-4 : 2e-6);
    });
  }
  testRegenerates("nn_init");
});

describe("truncated normal", () => {
  for (const { mean, std, a, b, moments } of golden.truncated) {
    test(`has the mean and variance of the distribution: ${mean}, ${std}, ${a}, ${b}`, () => {
      const n = 200_000;
      const x = init.truncNormal_(empty([n]), { mean, std, a, b, generator: new Generator(3) }).to("float64");
      expect(x.amin().item()).toBeGreaterThanOrEqual(Math.fround(a));
      expect(x.amax().item()).toBeLessThanOrEqual(Math.fround(b));
      // Six standard errors; the fourth moment of a truncated normal is at most that of the normal, 3 variance^2.
      expect(Math.abs(x.mean().item() - moments.mean)).toBeLessThan(6 * Math.sqrt(moments.variance / n));
      expect(Math.abs(x.var().item() / moments.variance - 1)).toBeLessThan(6 * Math.sqrt(2 / n));
    });
  }

  test("has no outlier where the uniform behind it hits its end", () => {
    // One float32 uniform in 2^24 is exactly 0, whose inverse is minus infinity: clamping alone would make it -2, a hundred std away.
    const shape = [1 << 19];
    const seed = 12;
    expect(empty(shape).uniform_(-1, 1, new Generator(seed)).amin().item()).toBe(-1);
    const furthest = init
      .truncNormal_(empty(shape), { generator: new Generator(seed) })
      .abs()
      .amax()
      .item();
    expect(furthest).toBeGreaterThan(4 * 0.02);
    expect(furthest).toBeLessThan(6 * 0.02);
  });
});

describe("bounds", () => {
  const within = (name: string, shape: number[], bound: number, make: (generator: Generator) => unknown) =>
    test(name, () => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 1e9 }), (seed) => {
          const x = make(new Generator(seed)) as ReturnType<typeof empty>;
          expect(x.shape).toEqual(shape);
          const most = x.abs().amax().item();
          expect(most).toBeLessThanOrEqual(Math.fround(bound));
          expect(most).toBeGreaterThan(0.9 * bound);
        }),
        { numRuns: 20 },
      );
    });
  within("xavier", [30, 20], Math.sqrt(6 / 50), (generator) => init.xavierUniform_(empty([30, 20]), { generator }));
  within("xavier of a kernel", [8, 5, 3, 3], Math.sqrt(6 / (13 * 9)), (generator) =>
    init.xavierUniform_(empty([8, 5, 3, 3]), { generator }),
  );
  // MoCo v3: q, k and v are three matrices, although one tensor holds them; the patch kernel counts as a matrix.
  within("xavier of q, k and v in one", [96, 32], Math.sqrt(6 / 64), (generator) =>
    init.xavierUniform_(empty([96, 32]), { fanOut: 32, generator }),
  );
  within("xavier of a patch kernel", [64, 3, 4, 4], Math.sqrt(6 / (48 + 64)), (generator) =>
    init.xavierUniform_(empty([64, 3, 4, 4]), { fanIn: 48, fanOut: 64, generator }),
  );
  within("kaiming", [30, 20], 1 / Math.sqrt(20), (generator) => init.kaimingUniform_(empty([30, 20]), { generator }));
  within("kaiming of a kernel", [8, 5, 3, 3], 1 / Math.sqrt(45), (generator) =>
    init.kaimingUniform_(empty([8, 5, 3, 3]), { generator }),
  );
});

test("the default generator decides, and only it", () => {
  const draw = (seed: number) => {
    manualSeed(seed);
    return init.truncNormal_(empty([100])).toArray();
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  manualSeed(5);
  const before = init.normal_(empty([3])).toArray();
  manualSeed(5);
  init.truncNormal_(empty([100]), { generator: new Generator(9) });
  expect(init.normal_(empty([3])).toArray()).toEqual(before);
});

test("initialisers work on parameters and leave no history", () => {
  const layer = new Linear(4, 3);
  init.truncNormal_(layer.weight);
  init.constant_(layer.bias!, 0.5);
  expect(layer.weight.isLeaf && layer.weight.requiresGrad).toBe(true);
  expect(layer.bias!.toArray()).toEqual([0.5, 0.5, 0.5]);
});

test("narrow types get the values of float32, rounded", () => {
  manualSeed(2);
  const wide = init.truncNormal_(empty([1000]));
  manualSeed(2);
  const narrow = init.truncNormal_(empty([1000], { dtype: "bfloat16" }));
  expect(narrow.dtype).toBe("bfloat16");
  expect(noGrad(() => narrow.equal(wide.to("bfloat16")))).toBe(true);
});

test("stored values of the reference are those of the distribution", () => {
  for (const { a, b, values } of golden.truncated) {
    for (const value of valuesOf(values)) {
      expect(value).toBeGreaterThanOrEqual(Math.fround(a));
      expect(value).toBeLessThanOrEqual(Math.fround(b));
    }
  }
});
