// Pyramids over a ViT and a Swin against tests/reference/pyramid.py: names, values, gradients.
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { autocast, memoryStats, noGrad, randn, tidy } from "../torch/index.js";
import { createPyramid, type Pyramid } from "./pyramid.js";
import { SwinTransformer } from "./swin.js";
import { VisionTransformer } from "./vit.js";

type Numbers = [norm: number, product: number];
interface Case {
  names: string[];
  shapes: number[][];
  maps: Stored[];
  sums: Numbers[];
  gradients: Record<string, Numbers>;
}
const golden = readGolden<Record<string, Case>>("pyramid");

const vit = (options: { classToken?: boolean } = {}) =>
  new VisionTransformer({ imageSize: [12, 16], patchSize: 4, width: 8, heads: 2, depth: 4, ...options });
const swin = () => new SwinTransformer({ imageSize: 64, embedDim: 4, depths: [1, 2, 1, 1], heads: [1, 1, 2, 2], windowSize: 2 });

const cases: Record<string, { pyramid: () => Pyramid; size: [number, number] }> = {
  vit: { pyramid: () => createPyramid(vit(), { levels: [0, 1, 2, 3] }), size: [12, 16] },
  "vit by choice": { pyramid: () => createPyramid(vit({ classToken: false }), { levels: [1, -3, 2, -1] }), size: [20, 12] },
  swin: { pyramid: () => createPyramid(swin()), size: [64, 64] },
};

function expectNumbers(actual: Numbers, expected: Numbers, what: string): void {
  for (const i of [0, 1] as const) expect(Math.abs(actual[i] - expected[i]), what).toBeLessThan(1e-8 * (1 + expected[0]));
}

describe("feature pyramid", () => {
  for (const [name, { pyramid: make, size }] of Object.entries(cases)) {
    test(`${name}: names, values and gradients`, () => {
      const expected = golden[name]!;
      const pyramid = setWeights(make().to("float64"));
      expect([...pyramid.stateDict().keys()].sort()).toEqual(expected.names.filter((each) => !/index|mask/.test(each)).sort());
      const maps = pyramid.call(fill([2, 3, ...size], 1));
      expect(maps.map(({ shape }) => shape)).toEqual(expected.shapes);
      expect(maps.map((each) => each.size(1))).toEqual(pyramid.widths);
      for (const [i, map] of maps.entries()) {
        expectClose(map.select(0, 1).slice(1, 0, 3).slice(2, 0, 3), expected.maps[i]!, 1e-9, `map ${i}`);
        const along = map.mul(fill(map.shape, 3)).sum().item();
        expectNumbers([map.norm().item(), along], expected.sums[i]!, `map ${i}`);
      }
      maps
        .map((each, i) => each.mul(fill(each.shape, 2 + i)).sum())
        .reduce((a, b) => a.add(b))
        .backward();
      const parameters = [...pyramid.namedParameters()].filter(([, each]) => each.grad !== null);
      expect(parameters.map(([each]) => each).sort()).toEqual(Object.keys(expected.gradients).sort());
      for (const [each, parameter] of parameters) {
        const gradient = parameter.grad!;
        const numbers: Numbers = [gradient.norm().item(), gradient.mul(fill(gradient.shape, 3)).sum().item()];
        expectNumbers(numbers, expected.gradients[each]!, `gradient of ${each}`);
      }
    });
  }
  testRegenerates("pyramid", ["torch", "timm"]);

  test("strides, and the blocks that CAE takes", () => {
    const made = (depth: number, patchSize = 16) =>
      createPyramid(new VisionTransformer({ imageSize: 32, patchSize, width: 8, heads: 1, depth }));
    expect(made(12).strides).toEqual([4, 8, 16, 32]);
    expect(made(12).levels).toEqual([3, 5, 7, 11]);
    expect(made(24).levels).toEqual([7, 11, 15, 23]);
    expect(made(1).levels).toEqual([0, 0, 0, 0]);
    expect(made(12, 8).strides).toEqual([2, 4, 8, 16]);
    expect(createPyramid(swin()).strides).toEqual([4, 8, 16, 32]);
  });

  test("maps of a size that stages and pools do not divide: filled up in a Swin, left out of a ViT's last map", () => {
    expect(createPyramid(swin()).call(randn([1, 3, 36, 20])).map(({ shape }) => shape.slice(2))).toEqual([[9, 5], [5, 3], [3, 2], [2, 1]]); // biome-ignore format: shapes
    expect(createPyramid(vit()).call(randn([1, 3, 12, 4])).map(({ shape }) => shape.slice(2))).toEqual([[12, 4], [6, 2], [3, 1], [1, 1]]); // biome-ignore format: shapes
  });

  test("works under autocast", () => {
    for (const pyramid of [createPyramid(vit()), createPyramid(swin())]) {
      const maps = autocast({}, () => pyramid.call(randn([2, 3, 64, 64])));
      maps.map((each) => each.float().sum()).reduce((a, b) => a.add(b)).backward(); // biome-ignore format: one thought
      for (const map of maps) expect(map.isFinite().all().item()).toBe(1);
    }
  });

  test("levels that do not fit are refused", () => {
    expect(() => createPyramid(vit(), { levels: [1, 2, 3] })).toThrow("takes four blocks of the encoder, got 3");
    expect(() => createPyramid(vit(), { levels: [0, 1, 2, 4] })).toThrow("level 4 does not exist: the encoder has blocks 0 to 3");
    const three = new SwinTransformer({ imageSize: 32, embedDim: 4, depths: [1, 1, 1], heads: [1, 1, 1], windowSize: 2 });
    expect(() => createPyramid(three)).toThrow("takes four stages of the encoder, got 3");
  });

  test("no handle is left over", () => {
    const pyramid = createPyramid(vit()).eval();
    const images = randn([1, 3, 12, 16]);
    collectGarbage();
    const counts = Array.from({ length: 3 }, () => {
      tidy(() => noGrad(() => void pyramid.call(images)));
      return memoryStats().handles;
    });
    expect(new Set(counts).size).toBe(1);
  });
});
