// Swin against timm on the same weights (tests/reference/swin_timm.py), and what it is as an Encoder.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { parameter } from "../nn/index.js";
import { memoryStats, noGrad, randn, tidy, zeros } from "../torch/index.js";
import { type SwinConfig, SwinTransformer, swinSizes } from "./swin.js";
import { cutOf, fromWindows, shiftMask, toWindows } from "./windows.js";

interface Small {
  tokens: Stored;
  stages: number[];
  "stage squares": number[];
  attention: Stored | null;
  gradients: Record<string, [norm: number, product: number]>;
}
const golden = readGolden<
  {
    "tiny names": string[];
    "tiny feature": Stored;
    "tiny squares": number;
    masked: Record<"cells" | "tokens" | "token" | "proj", Stored>;
  } & Record<"shifted" | "filled" | "odd", Small>
>("swin_timm");

const small: SwinConfig = { embedDim: 8, depths: [2, 2], heads: [2, 4], windowSize: 4 };

describe("Swin and timm's", () => {
  const cases: Record<"shifted" | "filled" | "odd", [size: number, config: SwinConfig]> = {
    shifted: [32, small],
    filled: [24, small],
    odd: [28, { ...small, depths: [2, 1, 1], heads: [1, 2, 4], qkvBias: false }],
  };
  for (const [name, [size, config]] of Object.entries(cases)) {
    test(`${name}: tokens, stages, attention and all gradients, float64`, () => {
      const expected = golden[name as keyof typeof cases];
      const swin = setWeights(new SwinTransformer({ ...config, imageSize: size }).to("float64"));
      const images = fill([2, 3, size, size], 1);
      const levels = config.depths!.map((_, i) => i);
      const encoded = swin.call(images, { levels, attention: true });
      expectClose(encoded.tokens.select(0, 1), expected.tokens, 1e-9, "tokens");
      expect(encoded.feature.sub(encoded.tokens.mean(1)).abs().amax().item()).toBe(0);
      for (const [i, level] of encoded.levels.entries()) {
        expect(level.sum().item()).toBeCloseTo(expected.stages[i]!, 7);
        expect(level.mul(level).sum().item() / expected["stage squares"][i]!).toBeCloseTo(1, 9);
        expect(level.size(2)).toBe(swin.levelShapes[i]!.width);
      }
      if (expected.attention) expectClose(encoded.attention!, expected.attention, 1e-10, "attention");
      encoded.tokens.mul(fill(encoded.tokens.shape, 2)).sum().backward();
      expect([...swin.namedParameters()].map(([each]) => each)).toEqual(Object.keys(expected.gradients));
      for (const [each, parameter] of swin.namedParameters()) {
        const [norm, product] = expected.gradients[each]!;
        const gradient = parameter.grad!;
        const scale = 1e-8 * (1 + norm) * Math.sqrt(gradient.numel);
        expect(Math.abs(gradient.norm().item() - norm), each).toBeLessThan(scale);
        expect(Math.abs(gradient.mul(fill(gradient.shape, 3)).sum().item() - product), each).toBeLessThan(scale);
      }
    });
  }

  test("masked: the output, and the gradients of the mask token and the patch projection", () => {
    const { masked } = golden;
    const swin = setWeights(new SwinTransformer({ ...small, imageSize: 32 }).to("float64"));
    const token = parameter(fill([8], 4));
    const where = fill([2, 16], 5).gt(0.3);
    expectClose(where.to("float64"), masked.cells, 0, "cells");
    const { tokens } = swin.call(fill([2, 3, 32, 32], 1), { mask: { where, token } });
    expectClose(tokens.select(0, 1), masked.tokens, 1e-9, "tokens");
    tokens.mul(fill(tokens.shape, 2)).sum().backward();
    expectClose(token.grad!, masked.token, 1e-8, "the token's gradient");
    expectClose(swin.patchEmbed.proj.weight.grad!, masked.proj, 1e-8, "the projection's gradient");
  });

  test("Swin-T at 224 px: names, and the feature within 1e-5 in float32", () => {
    const swin = setWeights(new SwinTransformer(swinSizes.tiny));
    expect([...swin.stateDict().keys()]).toEqual(golden["tiny names"]);
    const { feature } = noGrad(() => swin.call(fill([1, 3, 224, 224], 1).float()));
    expectClose(feature.select(0, 0).slice(0, 0, undefined, 8), golden["tiny feature"], 1e-5, "feature");
    expect(feature.mul(feature).sum().item() / golden["tiny squares"]).toBeCloseTo(1, 5);
  });
  testRegenerates("swin_timm", ["torch", "timm"]);
});

describe("windows", () => {
  test("cutting and putting together gives back the grid, for any grid, window and shift", () => {
    const side = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(side, side, fc.integer({ min: 1, max: 5 }), (rows, columns, window) =>
        tidy(() => {
          const x = randn([2, rows, columns, 3]);
          const cut = cutOf([rows, columns], [window, window], true);
          const windows = toWindows(x, cut);
          expect(windows.size(1)).toBe(cut.window[0] * cut.window[1]);
          expect(fromWindows(windows, [rows, columns], cut).equal(x)).toBe(true);
          const mask = shiftMask([rows, columns], cut);
          if (mask) expect(mask.shape).toEqual([windows.size(0) / 2, 1, windows.size(1), windows.size(1)]);
        }),
      ),
      { numRuns: 100 },
    );
  });

  test("a token sees no further than its window, and after a shift not around the image's edge", () => {
    // In float64: what comes through two layers of small weights may be less than float32's rounding.
    const swin = new SwinTransformer({ ...small, depths: [2], heads: [2], imageSize: 32 }).eval().to("float64");
    const images = randn([1, 3, 32, 32]).to("float64");
    const other = images.clone();
    noGrad(() => void other.narrow(2, 0, 4).narrow(3, 0, 4).fill_(3));
    const difference = swin.call(other).tokens.sub(swin.call(images).tokens).abs().amax(2).view([8, 8]).tolist() as number[][];
    // Its window of 4 x 4, and from there one of the shifted windows each way.
    for (const [row, values] of difference.entries()) {
      for (const [column, value] of values.entries()) expect(value > 0, `${row}, ${column}`).toBe(row < 6 && column < 6);
    }
  });
});

describe("as an encoder", () => {
  const swin = new SwinTransformer({ ...small, imageSize: 32 }).eval();

  test("other sizes than it was made for: larger ones, smaller ones, not square", () => {
    for (const [height, width] of [
      [64, 64],
      [16, 16],
      [8, 8],
      [24, 40],
    ] as const) {
      const { grid, tokens, levels } = swin.call(randn([1, 3, height, width]), { levels: [0, -1] });
      expect(grid).toEqual([height / 8, width / 8]);
      expect(tokens.shape).toEqual([1, (height * width) / 64, 16]);
      expect(levels.map(({ shape }) => shape)).toEqual([
        [1, (height * width) / 16, 8],
        [1, (height * width) / 64, 16],
      ]);
    }
    expect(swin.levelShapes).toEqual([
      { width: 8, stride: 4 },
      { width: 16, stride: 8 },
    ]);
  });

  test("a permuted batch gives permuted outputs", () => {
    const images = randn([3, 3, 32, 32]);
    const [a, b] = [swin.call(images).tokens, swin.call(images.flip(0)).tokens.flip(0)];
    expect(a.sub(b).abs().amax().item()).toBeLessThan(1e-6);
  });

  test("a masked cell of the last grid hides all its patches", () => {
    const images = randn([1, 3, 32, 32]);
    const where = zeros([1, 16]).to("bool");
    noGrad(() => void where.select(1, 5).fill_(1));
    const token = randn([8]);
    const other = images.clone();
    // Cell 5 of the 4 x 4 grid: row 1, column 1, 8 px a side.
    noGrad(() => void other.narrow(2, 8, 8).narrow(3, 8, 8).fill_(9));
    const [a, b] = [images, other].map((each) => swin.call(each, { mask: { where, token } }).tokens);
    expect(a!.equal(b!)).toBe(true);
    expect(swin.call(other).tokens.equal(b!)).toBe(false);
  });

  test("attention sums to one over a window, whatever the number of windows", () => {
    const { attention, grid } = swin.call(randn([2, 3, 64, 64]), { attention: true });
    expect(attention!.shape).toEqual([2, 4, grid[0] * grid[1]]);
    // 8 x 8 tokens of the last stage in four windows.
    for (const sum of attention!.sum(2).flatten().toArray()) expect(sum).toBeCloseTo(4, 4);
  });

  test("what windows cannot do is refused", () => {
    const images = randn([1, 3, 32, 32]);
    expect(() => swin.call(images, { subset: zeros([1, 2]).to("int64") })).toThrow(/need a ViT/);
    expect(() => swin.call(images, { levels: [2] })).toThrow("level 2 does not exist: the encoder has stages 0 to 1");
    expect(() => swin.call(randn([1, 3, 30, 32]))).toThrow(/multiples of the patch size 4, got 30x32/);
    expect(() => new SwinTransformer({ depths: [2, 2], heads: [1] })).toThrow(/as many numbers of heads/);
  });

  test("handles: masks and indices are made once", () => {
    const images = randn([1, 3, 32, 32]);
    const counts = Array.from({ length: 3 }, () => {
      tidy(() => void swin.call(images));
      return memoryStats().handles;
    });
    expect(new Set(counts).size).toBe(1);
  });
});
