// Segmentation heads against tests/reference/segmentation.py: names, values, gradients, running statistics.
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../../tests/reference/golden.js";
import { setWeights } from "../../../tests/reference/vit-weights.js";
import { autocast, manualSeed, noGrad, randn, type Tensor } from "../../torch/index.js";
import { SwinTransformer } from "../swin.js";
import { VisionTransformer } from "../vit.js";
import { FcnHead } from "./fcn-head.js";
import type { SegmentationHead } from "./layers.js";
import { LinearHead } from "./linear-head.js";
import { Segmenter, type SegmenterConfig } from "./segmenter.js";
import { UperHead } from "./uper-head.js";

type Numbers = [norm: number, product: number];
interface Case {
  names: string[];
  logits: Stored;
  sums: Numbers;
  maps: Numbers[];
  gradients: Record<string, Numbers>;
  running: Record<string, Numbers>;
}
const golden = readGolden<Record<string, Case>>("segmentation");
type Sizes = readonly (readonly [number, number])[];

const cases: Record<string, { head: () => SegmentationHead; widths: number[]; sizes: Sizes }> = {
  linear: { head: () => new LinearHead(6, 5), widths: [6], sizes: [[3, 4]] },
  fcn: { head: () => new FcnHead({ width: 6, classes: 5, map: 0, channels: 4, dropout: 0 }), widths: [6], sizes: [[5, 4]] },
  auxiliary: {
    head: () => new FcnHead({ width: 6, classes: 3, map: 2, channels: 4, convs: 1, concat: false, dropout: 0 }),
    widths: [4, 5, 6, 7],
    sizes: [[8, 8], [4, 4], [2, 2], [1, 1]], // biome-ignore format: sizes
  },
  upernet: {
    head: () => new UperHead({ widths: [4, 5, 6, 7], classes: 5, channels: 4, dropout: 0 }),
    widths: [4, 5, 6, 7],
    sizes: [[16, 24], [8, 12], [4, 6], [2, 3]], // biome-ignore format: sizes
  },
  "upernet of odd maps": {
    head: () => new UperHead({ widths: [4, 5, 6, 7], classes: 3, channels: 3, dropout: 0 }),
    widths: [4, 5, 6, 7],
    sizes: [[9, 7], [5, 4], [3, 2], [2, 1]], // biome-ignore format: sizes
  },
};

function expectNumbers(tensor: Tensor | null, expected: Numbers, what: string): void {
  const given = tensor ? [tensor.norm().item(), tensor.mul(fill(tensor.shape, 3)).sum().item()] : [0, 0];
  for (const i of [0, 1] as const) expect(Math.abs(given[i]! - expected[i]), what).toBeLessThan(1e-8 * (1 + expected[0]));
}

describe("segmentation heads", () => {
  for (const [name, { head: make, widths, sizes }] of Object.entries(cases)) {
    test(`${name}: names, values and gradients`, () => {
      const expected = golden[name]!;
      const head = setWeights(make().to("float64"));
      expect([...head.stateDict().keys()].sort()).toEqual([...expected.names].sort());
      const maps = widths.map((width, i) => fill([2, width, ...sizes[i]!], 20 + i).requiresGrad_());
      const logits = head.call(maps);
      expectClose(logits.select(0, 1).slice(1, 0, 4).slice(2, 0, 4), expected.logits, 1e-9, "logits");
      expectNumbers(logits, expected.sums, "logits");
      logits.mul(fill(logits.shape, 2)).sum().backward();
      for (const [i, map] of maps.entries()) expectNumbers(map.grad, expected.maps[i]!, `gradient of map ${i}`);
      const parameters = new Map(head.namedParameters());
      expect([...parameters.keys()].sort()).toEqual(Object.keys(expected.gradients).sort());
      for (const [each, numbers] of Object.entries(expected.gradients)) {
        expectNumbers(parameters.get(each)!.grad, numbers, `gradient of ${each}`);
      }
      const state = head.stateDict();
      for (const [each, numbers] of Object.entries(expected.running)) expectNumbers(state.get(each)!, numbers, each);
    });
  }
  testRegenerates("segmentation");
});

describe("segmenter", () => {
  const vit = () => new VisionTransformer({ imageSize: 32, patchSize: 8, width: 16, heads: 2, depth: 4 });
  const swin = () =>
    new SwinTransformer({ imageSize: 64, embedDim: 4, depths: [1, 1, 1, 1], heads: [1, 1, 1, 1], windowSize: 2 });
  const make = (config: Partial<SegmenterConfig> = {}) =>
    new Segmenter(vit(), { classes: 5, head: "upernet", channels: 8, ...config });

  test("every head over a ViT and a Swin, trained and not, gives scores on its own grid", () => {
    const images = randn([2, 3, 64, 32]);
    const grids = { linear: [8, 4], fcn: [8, 4], upernet: [32, 16] };
    for (const head of ["linear", "fcn", "upernet"] as const) {
      const segmenter = make({ head });
      const trained = segmenter.call(images);
      expect(trained.logits.shape).toEqual([2, 5, ...grids[head]]);
      expect(trained.auxiliary?.shape ?? null).toEqual(head === "upernet" ? [2, 5, 8, 4] : null);
      expect(segmenter.eval().call(images).auxiliary).toBeNull();
    }
    const over = new Segmenter(swin(), { classes: 3, head: "upernet", channels: 8, auxiliaryChannels: 4 });
    expect(over.call(images).logits.shape).toEqual([2, 3, 16, 8]);
    expect(new Segmenter(swin(), { classes: 3, head: "linear" }).call(images).logits.shape).toEqual([2, 3, 2, 1]);
  });

  test("names begin with backbone, decode_head and auxiliary_head", () => {
    const starts = new Set([...make().stateDict().keys()].map((name) => name.split(".").slice(0, 2).join(".")));
    for (const each of ["backbone.encoder", "backbone.fpn1", "decode_head.conv_seg", "auxiliary_head.convs"]) {
      expect(starts).toContain(each);
    }
    expect(make({ auxiliaryChannels: 0 }).auxiliaryHead).toBeNull();
  });

  test("channels may be as wide as the encoder; several blocks stand side by side", () => {
    expect(make({ channels: "width" }).stateDict().get("decode_head.conv_seg.weight")!.shape).toEqual([5, 16, 1, 1]);
    const linear = make({ head: "linear", lastBlocks: 3, classes: 2 });
    expect(linear.stateDict().get("decode_head.bn.weight")!.shape).toEqual([48]);
    // The last of them is what one alone would be.
    const encoder = linear.encoder.eval();
    const images = randn([1, 3, 32, 32]);
    const { patches } = encoder.call(images);
    const [map] = linear.backbone.call(images);
    expect(map!.narrow(1, 32, 16).flatten(2).transpose(1, 2).sub(patches!).abs().amax().item()).toBeLessThan(1e-6);
  });

  test("a frozen encoder is not trained, and stays in evaluation mode", () => {
    const encoder = new VisionTransformer({ imageSize: 32, patchSize: 8, width: 16, heads: 2, depth: 4, dropPath: 0.9 });
    const segmenter = new Segmenter(encoder, { classes: 5, head: "linear", frozen: true });
    segmenter.train();
    expect([segmenter.training, encoder.training, encoder.blocks[0]!.training]).toEqual([true, false, false]);
    segmenter
      .call(randn([2, 3, 32, 32]))
      .logits.sum()
      .backward();
    const trained = [...segmenter.namedParameters()].filter(([, each]) => each.grad).map(([name]) => name);
    expect(trained.sort()).toEqual(
      ["bn.bias", "bn.weight", "conv_seg.bias", "conv_seg.weight"].map((each) => `decode_head.${each}`),
    );
  });

  test("whole channels drop out while training, and only then", () => {
    manualSeed(1);
    const head = new FcnHead({ width: 4, classes: 2, map: 0, channels: 4, convs: 0, concat: false, dropout: 0.5 });
    const maps = [randn([3, 4, 5, 5])];
    const [a, b] = [head.call(maps), head.call(maps)];
    expect(a.equal(b)).toBe(false);
    head.eval();
    expect(head.call(maps).equal(head.call(maps))).toBe(true);
  });

  test("works under autocast", () => {
    const segmenter = make();
    const { logits, auxiliary } = autocast({}, () => segmenter.call(randn([2, 3, 32, 32])));
    logits.float().sum().add(auxiliary!.float().sum()).backward();
    expect(noGrad(() => logits.isFinite().all().item())).toBe(1);
  });

  test("what does not fit is refused", () => {
    expect(() => make({ classes: 1 })).toThrow("a segmenter of 1 classes; expected 2 or more");
    expect(() => make({ head: "linear", lastBlocks: 5 })).toThrow("the last 5 blocks were asked for; expected 1 to 4");
    const over = () => new Segmenter(swin(), { classes: 3, head: "fcn", lastBlocks: 2 });
    expect(over).toThrow("have no common grid; expected 1");
  });
});
