// Windowed attention of a ViT against tests/reference/vit_windows.py, and what must hold of it.
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { tensor, zeros } from "../torch/index.js";
import { globalBlocksOf } from "./global-blocks.js";
import { VisionTransformer, type VitConfig } from "./vit.js";

type Numbers = [norm: number, product: number];
const golden = readGolden<Record<string, { tokens: Stored; sums: Numbers; gradients: Record<string, Numbers> }>>("vit_windows");
const vit = (config: VitConfig) =>
  setWeights(new VisionTransformer({ imageSize: 16, patchSize: 4, width: 16, heads: 2, depth: 4, ...config }).to("float64"));

const cases: Record<string, { config: VitConfig; size: [number, number] }> = {
  "windows that do not divide the grid": { config: { windowSize: 3, globalBlocks: [1, -1] }, size: [20, 28] },
  "no class token": { config: { windowSize: 3, globalBlocks: [1, 3], classToken: false }, size: [20, 28] },
  "windows larger than one side": { config: { windowSize: 5, globalBlocks: [3] }, size: [12, 32] },
};

function expectNumbers(actual: Numbers, expected: Numbers, what: string): void {
  for (const i of [0, 1] as const) expect(Math.abs(actual[i] - expected[i]), what).toBeLessThan(1e-8 * (1 + expected[0]));
}

describe("attention inside windows", () => {
  for (const [name, { config, size }] of Object.entries(cases)) {
    test(`${name}: values and gradients`, () => {
      const expected = golden[name]!;
      const model = vit(config);
      const { tokens } = model.call(fill([2, 3, ...size], 1));
      expectClose(tokens.select(0, 1).slice(0, 0, 4).slice(1, 0, 6), expected.tokens, 1e-9);
      tokens.mul(fill(tokens.shape, 2)).sum().backward();
      for (const [key, each] of model.namedParameters()) {
        const gradient = each.grad!;
        const numbers: Numbers = [gradient.norm().item(), gradient.mul(fill(gradient.shape, 3)).sum().item()];
        expectNumbers(numbers, expected.gradients[key]!, key);
      }
    });
  }
  testRegenerates("vit_windows");

  test("one window over the whole grid is the plain ViT, with biases by relative position too", () => {
    for (const relPosBias of ["none", "block", "shared"] as const) {
      const images = fill([2, 3, 16, 16], 1);
      const windowed = vit({ windowSize: 4, globalBlocks: [3], relPosBias }).call(images).tokens;
      expect(windowed.sub(vit({ relPosBias }).call(images).tokens).abs().amax().item()).toBeLessThan(1e-12);
    }
  });

  test("what is in another window counts only from the next global block on", () => {
    const model = vit({ windowSize: 2, globalBlocks: [2, 3], classToken: false });
    const images = fill([1, 3, 16, 16], 1);
    const other = images.clone();
    other.select(1, 0).narrow(1, 12, 4).narrow(2, 12, 4).fill_(0.3);
    const [a, b] = [images, other].map((each) => model.call(each, { levels: [0, 1, 2] }).levels) as [typeof images[], typeof images[]]; // biome-ignore format: one thought
    const changed = a.map((each, i) => each.select(1, 0).sub(b[i]!.select(1, 0)).abs().amax().item() > 1e-9);
    expect(changed).toEqual([false, false, true]);
  });

  test("ViTDet's choice of blocks", () => {
    expect(globalBlocksOf(12)).toEqual([2, 5, 8, 11]);
    expect(globalBlocksOf(24)).toEqual([5, 11, 17, 23]);
    expect(globalBlocksOf(2)).toEqual([0, 1]);
  });

  test("what does not fit is refused", () => {
    expect(() => vit({ windowSize: 2, globalBlocks: [0, 4] })).toThrow("block 4, but the encoder has blocks 0 to 3");
    expect(() => vit({ windowSize: 2, globalBlocks: [0] })).toThrow("lacks the last block, 3");
    expect(() => vit({ windowSize: 1.5 })).toThrow("windowSize is 1.5; expected a whole number");
    const model = vit({ windowSize: 2, globalBlocks: [3] });
    const subset = tensor([[0, 1]], { dtype: "int64" });
    expect(() => model.call(fill([1, 3, 16, 16], 1), { subset })).toThrow("leave out subset and attentionMask");
    expect(() => model.call(fill([1, 3, 16, 16], 1), { attentionMask: zeros([17, 17]) })).toThrow("leave out subset");
  });
});
