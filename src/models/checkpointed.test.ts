// Encoders with gradient checkpointing: what comes out and every gradient is the same as without, to the last bit.
import { expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import {
  allocatorStats,
  autocast,
  manualSeed,
  memoryStats,
  noGrad,
  randn,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "../torch/index.js";
import { type BackboneConfig, createBackbone } from "./backbone.js";
import type { Encoded, EncodeOptions, Encoder } from "./encoder.js";

const vit = { imageSize: 16, patchSize: 4, width: 16, depth: 4, heads: 2 };

/** Loss and all gradients of an encoder, with its random numbers from one seed. */
function pass(encoder: Encoder, images: Tensor, options: EncodeOptions, half: boolean) {
  encoder.zeroGrad();
  images.grad = null;
  manualSeed(7);
  const encoded = half ? autocast({}, () => encoder.call(images, options)) : encoder.call(images, options);
  const loss = lossOf(encoded);
  loss.backward();
  const gradientOf = (each: Tensor) => each.grad?.toArray() ?? null;
  const gradients = new Map([...encoder.namedParameters()].map(([name, each]) => [name, gradientOf(each)]));
  return {
    shapes: [encoded.tokens, ...encoded.levels].map((each) => each.shape),
    loss: loss.item(),
    images: gradientOf(images),
    gradients,
  };
}

/** Of everything that comes out. */
function lossOf({ tokens, feature, patches, levels, attention }: Encoded): Tensor {
  const all = [tokens, feature, patches, ...levels, attention].filter((each) => each !== null);
  return all
    .map((each, i) =>
      each
        .float()
        .pow(2)
        .mean()
        .mul(i + 1),
    )
    .reduce((sum, each) => sum.add(each));
}

const mask = () => tensor(Array.from({ length: 17 }, (_, i) => Array.from({ length: 17 }, (_, j) => (j > i ? -1e4 : 0))));
const subset = () =>
  tensor(
    [
      [1, 5, 9, 3],
      [0, 15, 2, 7],
      [4, 6, 8, 10],
    ],
    { dtype: "int64" },
  );

const cases: { name: string; config: BackboneConfig; options?: () => EncodeOptions }[] = [
  { name: "a ViT", config: vit },
  { name: "layer scale and drop path", config: { ...vit, layerScale: 0.1, dropPath: 0.5 } },
  { name: "bias of q and v only, sines and cosines", config: { ...vit, keyBias: false, positions: "sin-cos" } },
  { name: "levels", config: { ...vit, dropPath: 0.5 }, options: () => ({ levels: [0, 1, -1] }) },
  { name: "attention", config: { ...vit, layerScale: 0.1 }, options: () => ({ levels: [-2], attention: true }) },
  { name: "attention without class token", config: { ...vit, classToken: false }, options: () => ({ attention: true }) },
  { name: "the class token only", config: vit, options: () => ({ classOnly: true, levels: [2] }) },
  { name: "a bias shared by all blocks", config: { ...vit, relPosBias: "shared" } },
  { name: "a bias in each block", config: { ...vit, relPosBias: "block" }, options: () => ({ classOnly: true }) },
  {
    name: "windows",
    config: { ...vit, windowSize: 3, globalBlocks: [1, 3], relPosBias: "shared" },
    options: () => ({ levels: [0] }),
  },
  { name: "a mask of attention", config: vit, options: () => ({ attentionMask: mask() }) },
  { name: "a subset", config: vit, options: () => ({ subset: subset() }) },
  {
    name: "a Swin",
    config: {
      name: "swin",
      imageSize: 32,
      patchSize: 2,
      embedDim: 8,
      depths: [2, 2],
      heads: [2, 2],
      windowSize: 4,
      dropPath: 0.5,
    },
    options: () => ({ levels: [0], attention: true }),
  },
];

for (const { name, config, options = () => ({}) } of cases) {
  for (const half of [false, true]) {
    test(`${name}, ${half ? "bfloat16" : "float32"}`, () => {
      tidy(() => {
        manualSeed(1);
        const encoder = createBackbone(config);
        // Biases and tables begin with zero.
        noGrad(() => {
          for (const each of encoder.parameters()) each.add_(randn(each.shape).mul(0.05));
        });
        const side = typeof config.imageSize === "number" ? config.imageSize : 16;
        const images = randn([3, 3, side, side]).requiresGrad_();
        const given = options();
        const without = pass(encoder, images, given, half);
        encoder.gradientCheckpointing = true;
        expect(pass(encoder, images, given, half)).toEqual(without);
        expect(without.gradients.size).toBeGreaterThan(10);
        encoder.dispose();
      });
    });
  }
}

test("a frozen start, a frozen encoder, and no gradients at all", () => {
  tidy(() => {
    const encoder = createBackbone({ ...vit, dropPath: 0.5 });
    const images = randn([2, 3, 16, 16]);
    const seen = [false, true].map((on) => {
      encoder.gradientCheckpointing = on;
      encoder.requiresGrad_(true);
      encoder.patchEmbed.requiresGrad_(false);
      const frozenStart = pass(encoder, images, {}, false);
      for (const [name, each] of encoder.namedParameters()) each.requiresGrad = name.startsWith("blocks.2.");
      const middle = pass(encoder, images, { levels: [0, 2] }, true);
      encoder.requiresGrad_(false);
      manualSeed(7);
      const frozen = encoder.call(images);
      encoder.requiresGrad_(true);
      manualSeed(7);
      const off = noGrad(() => encoder.call(images));
      return [frozenStart, middle, frozen.tokens.requiresGrad, frozen.tokens.tolist(), off.tokens.tolist()];
    });
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[1]![2]).toBe(false);
    encoder.dispose();
  });
});

test("the state dict is the same, and blocks' activations are not kept", () => {
  collectGarbage();
  const encoder = createBackbone({ ...vit, width: 64, depth: 8, heads: 2 });
  const names = [...encoder.stateDict().keys()];
  const images = zeros([16, 3, 16, 16]);
  const held = [false, true, true, true].map((on) => {
    encoder.gradientCheckpointing = on;
    const handles = memoryStats().handles;
    const bytes = tidy(() => {
      const before = allocatorStats().bytesInUse;
      const { feature } = encoder.call(images, { levels: [3] });
      const kept = allocatorStats().bytesInUse - before;
      feature.sum().backward();
      encoder.zeroGrad();
      return kept;
    });
    expect(memoryStats().handles).toBe(handles);
    return bytes;
  });
  expect([...encoder.stateDict().keys()]).toEqual(names);
  expect(held[1]).toBeLessThan(held[0]! / 4);
  expect(held[3]).toBe(held[2]);
  encoder.dispose();
  images.dispose();
});
