// The ViT's switches against the independent ViT of tests/reference/vit_variants.py, and what must hold of any.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights, weightOf } from "../../tests/reference/vit-weights.js";
import { Residual } from "../nn/index.js";
import { cat, fromTypedArray, manualSeed, noGrad, randn, randperm, type Tensor, tensor } from "../torch/index.js";
import { type Encoded, type EncodeOptions, VisionTransformer, type VitConfig, vitSizes } from "./index.js";

interface Case {
  "tokens, sample 1": Stored;
  "level 0, class token": Stored;
  "attention, sample 1": Stored;
  gradients: Record<string, [norm: number, product: number]>;
}
const { cases: golden } = readGolden<{ cases: Record<string, Case> }>("vit_variants");

const tiny: VitConfig = { imageSize: [12, 20], patchSize: 4, width: 16, depth: 2, heads: 2 };
const square: VitConfig = { ...tiny, imageSize: 16 };
const masked = () => {
  const rows = [new Set([0, 3, 4, 14]), new Set([7, 8])].map((set) => Array.from({ length: 15 }, (_, i) => set.has(i)));
  return { where: tensor(rows as never, { dtype: "bool" }), token: weightOf("mask_token", [16]).requiresGrad_() };
};
const chosen = () => tensor([[3, 1, 14, 7], [0, 9, 2, 13]], { dtype: "int64" }); // biome-ignore format: as in the program
const cases: Record<string, [VitConfig, (() => EncodeOptions)?]> = {
  "3x5 patches": [tiny],
  "layer scale": [{ ...tiny, layerScale: 1 }],
  "no key bias, layer scale": [{ ...tiny, keyBias: false, layerScale: 0.1 }],
  "no bias of q, k, v": [{ ...tiny, qkvBias: false }],
  "no class token": [{ ...tiny, classToken: false }],
  "sin-cos, row first": [{ ...tiny, positions: "sin-cos", sinCos: { order: "row-column" } }],
  "sin-cos, column first": [{ ...tiny, positions: "sin-cos", sinCos: { order: "column-row" } }],
  "4 heads, narrow mlp, one channel": [{ ...tiny, heads: 4, mlpRatio: 2, channels: 1 }],
  "mask tokens": [tiny, () => ({ mask: masked() })],
  subset: [tiny, () => ({ subset: chosen() })],
  "mask tokens and subset": [tiny, () => ({ mask: masked(), subset: chosen() })],
  "positions resized exactly": [square],
  "positions resized as DINO": [{ ...square, interpolation: "dino" }],
};

/** The encoder in float64 with weights by formula; fixed positions stay as they are. */
function prepare(config: VitConfig): VisionTransformer {
  const vit = new VisionTransformer(config);
  const fixed = config.positions === "sin-cos" ? vit.posEmbed.clone() : null;
  setWeights(vit.to("float64"));
  if (fixed) noGrad(() => vit.posEmbed.copy_(fixed));
  return vit;
}
const input = (config: VitConfig) => fill([2, config.channels ?? 3, 12, 20], 1).requiresGrad_();
const near = (a: Tensor, b: Tensor, tolerance: number) => expect(a.sub(b).abs().amax().item()).toBeLessThanOrEqual(tolerance);
const product = (a: Tensor, seed: number) => a.mul(fill(a.shape, seed)).sum();

describe("values and gradients of every switch", () => {
  test("every case of the reference program is checked", () => {
    expect(Object.keys(cases)).toEqual(Object.keys(golden));
  });
  for (const [name, [config, options = () => ({})]] of Object.entries(cases)) {
    test(name, () => {
      const expected = golden[name]!;
      const vit = prepare(config);
      const images = input(config);
      const given: EncodeOptions = options();
      const withClass = config.classToken !== false;
      // Fixed positions are float32 here and float64 there.
      const tolerance = config.positions === "sin-cos" ? 1e-6 : 1e-9;
      const encoded = vit.call(images, { ...given, levels: [0, -1], attention: withClass });
      expectClose(encoded.tokens.select(0, 1), expected["tokens, sample 1"], tolerance, "tokens");
      expectClose(encoded.levels[0]!.select(1, 0), expected["level 0, class token"], tolerance, "level 0");
      if (withClass) expectClose(encoded.attention!.select(0, 1), expected["attention, sample 1"], tolerance, "attention");
      else near(encoded.feature, encoded.tokens.mean(1), 1e-12);
      expect(encoded.grid).toEqual([3, 5]);
      expect(encoded.patches!.equal(encoded.tokens.slice(1, vit.prefix))).toBe(true);
      near(vit.norm.call(encoded.levels[1]!), encoded.tokens, 1e-12);

      product(encoded.tokens, 2).backward();
      const gradients = new Map([...vit.namedParameters()].map(([each, parameter]) => [each, parameter.grad!]));
      gradients.set("images", images.grad!);
      if (given.mask) gradients.set("token", given.mask.token.grad!);
      expect([...gradients.keys()].sort()).toEqual(Object.keys(expected.gradients).sort());
      for (const [each, gradient] of gradients) {
        const [norm, along] = expected.gradients[each]!;
        const scale = Math.max(norm, 1) * Math.sqrt(gradient.numel);
        expect(Math.abs(gradient.norm().item() - norm), `norm of the gradient of ${each}`).toBeLessThan(tolerance * scale);
        expect(Math.abs(product(gradient, 3).item() - along), `gradient of ${each}`).toBeLessThan(tolerance * scale);
      }
    });
  }
  testRegenerates("vit_variants");
});

describe("what an encoder gives", () => {
  const { width } = { width: 16 };
  const encode = (options: EncodeOptions = {}, vit = prepare(tiny)): Encoded => vit.call(input(tiny), options);

  test("a batch in another order gives its outputs in that order", () => {
    const vit = prepare(tiny);
    const images = fill([4, 3, 12, 20], 5);
    const tokens = vit.call(images).tokens;
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 1 }), (order) => {
        const index = tensor(order, { dtype: "int64" });
        near(vit.call(images.indexSelect(0, index)).tokens, tokens.indexSelect(0, index), 1e-12);
      }),
      { numRuns: 6 },
    );
  });

  test("a subset in another order gives its outputs in that order, and the class token does not care", () => {
    const vit = prepare(tiny);
    const images = input(tiny);
    fc.assert(
      fc.property(fc.shuffledSubarray([...Array(15).keys()], { minLength: 2 }), fc.nat(), (patches, by) => {
        const turned = patches.map((_, i) => patches[(i + by) % patches.length]!);
        const [a, b] = [patches, turned].map((each) =>
          vit.call(images, { subset: tensor([each, each], { dtype: "int64" }) }),
        ) as [Encoded, Encoded];
        const back = tensor(
          patches.map((each) => turned.indexOf(each)),
          { dtype: "int64" },
        );
        near(b.patches!.indexSelect(1, back), a.patches!, 1e-12);
        near(a.feature, b.feature, 1e-12);
      }),
      { numRuns: 8 },
    );
  });

  test("the subset of all patches in order is the whole", () => {
    const all = tensor([0, 1].map(() => [...Array(15).keys()]), { dtype: "int64" }); // biome-ignore format: short
    near(encode({ subset: all }).tokens, encode().tokens, 1e-12);
  });

  test("what goes into the first block of a subset is what goes in of the whole, positions and all", () => {
    const vit = prepare(tiny);
    const images = input(tiny);
    const index = chosen();
    const whole = vit.embed(images);
    const some = vit.embed(images, { subset: index });
    const rows = index.add(1).unsqueeze(-1).expand([2, 4, 16]);
    near(some.slice(1, 1), whole.gather(1, rows), 1e-12);
    expect(some.narrow(1, 0, 1).equal(whole.narrow(1, 0, 1))).toBe(true);
    near(vit.embed(images, { subset: index, embedded: vit.embedPatches(images) }), some, 1e-12);
  });

  test("a subset of patches that are not there is refused", () => {
    const subset = tensor([[0, 15], [1, 2]], { dtype: "int64" }); // biome-ignore format: short
    expect(() => prepare(tiny).call(input(tiny), { subset })).toThrow("from 0 to 14, got 0 to 15");
  });

  test("a masked patch goes in as token plus position, whatever the image shows there", () => {
    const vit = prepare(tiny);
    const mask = masked();
    const a = vit.embed(input(tiny), { mask });
    const b = vit.embed(fill([2, 3, 12, 20], 9), { mask });
    const positions = vit.posEmbed;
    for (const [sample, patch] of [
      [0, 0],
      [0, 14],
      [1, 7],
    ] as const) {
      // biome-ignore format: short
      const expected = mask.token.add(positions.select(0, 0).select(0, patch + 1));
      near(a.select(0, sample).select(0, patch + 1), expected, 1e-14);
      near(b.select(0, sample).select(0, patch + 1), expected, 1e-14);
    }
    expect(
      a
        .select(0, 0)
        .select(0, 2)
        .equal(vit.embed(input(tiny)).select(0, 0).select(0, 2)),
    ).toBe(true);
    expect(a.select(0, 0).select(0, 2).equal(b.select(0, 0).select(0, 2))).toBe(false);
  });

  test("a mask that covers nothing changes nothing, and its token gets a gradient of zero", () => {
    const token = weightOf("mask_token", [width]).requiresGrad_();
    const where = tensor([0, 1].map(() => Array(15).fill(0)), { dtype: "bool" }); // biome-ignore format: short
    const encoded = encode({ mask: { where, token } });
    expect(encoded.tokens.equal(encode().tokens)).toBe(true);
    product(encoded.tokens, 2).backward();
    expect(token.grad!.abs().sum().item()).toBe(0);
  });

  test("a mask token of another precision does not widen the sequence", () => {
    const vit = setWeights(new VisionTransformer(tiny));
    expect(vit.embed(input(tiny).float(), { mask: masked() }).dtype).toBe("float32");
  });

  test("levels come in the order asked for, and negative ones count from the end", () => {
    const { levels } = encode({ levels: [1, 0, -1, -2] });
    expect(levels.map((each) => each.shape)).toEqual(Array(4).fill([2, 16, width]));
    expect(levels[0]!.equal(levels[2]!)).toBe(true);
    expect(levels[1]!.equal(levels[3]!)).toBe(true);
    expect(levels[0]!.equal(levels[1]!)).toBe(false);
  });

  test("the attention row sums to 1 and is the softmax of q k / sqrt d", () => {
    const vit = prepare(tiny);
    const { attention, levels } = vit.call(input(tiny), { attention: true, levels: [0] });
    expect(attention!.shape).toEqual([2, 2, 16]);
    near(attention!.sum(-1), fromTypedArray(new Float64Array(4).fill(1), [2, 2]), 1e-12);
    const { qkv } = vit.blocks[1]!.attn;
    const projected = qkv.call(vit.blocks[1]!.norm1.call(levels[0]!));
    const heads = (part: number) =>
      projected
        .narrow(-1, part * 16, 16)
        .reshape([2, 16, 2, 8])
        .transpose(1, 2);
    const scores = heads(0).narrow(2, 0, 1).matmul(heads(1).transpose(-2, -1)).div(Math.sqrt(8));
    near(scores.softmax(-1).select(2, 0), attention!, 1e-12);
  });

  for (const attention of [false, true]) {
    test(`classOnly is the class token of the full pass, values and gradients${attention ? ", with attention" : ""}`, () => {
      const results = [false, true].map((classOnly) => {
        const vit = setWeights(new VisionTransformer({ ...tiny, layerScale: 1 }));
        const images = input(tiny).float().detach().requiresGrad_();
        const encoded = vit.call(images, { classOnly, attention, levels: [0] });
        encoded.feature
          .mul(fill([2, width], 4).float())
          .sum()
          .backward();
        return { vit, images, encoded };
      });
      const [full, short] = results as [(typeof results)[0], (typeof results)[0]];
      expect(short.encoded.tokens.shape).toEqual([2, 1, width]);
      expect(short.encoded.patches).toBeNull();
      near(short.encoded.feature, full.encoded.feature, 1e-6);
      near(short.encoded.levels[0]!, full.encoded.levels[0]!, 1e-6);
      if (attention) near(short.encoded.attention!, full.encoded.attention!, 1e-6);
      near(short.images.grad!, full.images.grad!, 1e-6);
      const theirs = new Map(full.vit.namedParameters());
      for (const [name, parameter] of short.vit.namedParameters()) {
        near(parameter.grad!, theirs.get(name)!.grad!, 2e-6 * Math.max(1, parameter.grad!.abs().amax().item()));
      }
    });
  }

  test("without a class token the feature is the mean of the patches, and the attention that of all of them", () => {
    const vit = prepare({ ...tiny, classToken: false });
    const { feature, patches, tokens, attention, levels } = vit.call(input(tiny), { attention: true, levels: [0] });
    near(feature, patches!.mean(1), 1e-12);
    const { weights } = vit.blocks[1]!.withAttention(new Residual(levels[0]!));
    expect(attention!.shape).toEqual([2, 2, 15]);
    near(attention!, weights.mean(2), 1e-12);
    const short = vit.call(input(tiny), { attention: true, classOnly: true });
    expect(short.patches).toBeNull();
    for (const [one, other] of [
      [short.feature, feature],
      [short.attention!, attention!],
      [short.tokens, tokens],
    ] as const) {
      near(one, other, 1e-12);
    }
  });

  test("classOnly with the last level wanted still gives that level whole", () => {
    const { levels, tokens } = encode({ classOnly: true, levels: [-1] });
    expect(levels[0]!.shape).toEqual([2, 16, width]);
    expect(tokens.shape).toEqual([2, 1, width]);
    near(levels[0]!, encode({ levels: [-1] }).levels[0]!, 1e-12);
  });
});

describe("drop path", () => {
  // A block whose branches are the identity of zero: what is left of a sample tells which branches were dropped.
  const run = (vit: VisionTransformer, images: Tensor) =>
    noGrad(() => vit.call(images, { levels: [...Array(vit.depth).keys()] }).levels);

  test("grows linearly with depth from 0, drops whole samples and scales the others", () => {
    manualSeed(3);
    const depth = 5;
    const vit = new VisionTransformer({ ...tiny, depth, dropPath: 0.4 });
    // Attention and perceptron that add exactly 1 to every channel: a dropped branch adds 0, a kept one 1 / (1 - p).
    noGrad(() => {
      for (const block of vit.blocks) {
        for (const last of [block.attn.proj, block.mlp.fc2]) {
          last.weight.zero_();
          last.bias!.fill_(1);
        }
      }
    });
    const count = 600;
    const images = randn([count, 3, 12, 20]);
    const levels = [noGrad(() => vit.embed(images)), ...run(vit, images)];
    for (let i = 0; i < depth; i++) {
      const p = (0.4 * i) / (depth - 1);
      const added = levels[i + 1]!.sub(levels[i]!);
      const branches = added
        .mul(1 - p)
        .select(2, 0)
        .select(1, 0)
        .round();
      near(
        added,
        branches
          .div(1 - p)
          .view([count, 1, 1])
          .expand(added.shape),
        1e-5,
      );
      const mean = branches.mean().item() / 2;
      // Five standard deviations of the share of 1200 draws.
      expect(Math.abs(mean - (1 - p))).toBeLessThanOrEqual(5 * Math.sqrt((p * (1 - p)) / (2 * count)) + 1e-9);
      if (p > 0) expect(new Set(branches.toArray())).toEqual(new Set([0, 1, 2]));
    }
  });
  test("does nothing in eval mode", () => {
    const vit = new VisionTransformer({ ...tiny, dropPath: 0.9 }).eval();
    const images = randn([2, 3, 12, 20]);
    expect(vit.call(images).tokens.equal(vit.call(images).tokens)).toBe(true);
    expect(vit.train().call(images).tokens.equal(vit.call(images).tokens)).toBe(false);
  });
  test("of a single block is 0, as linspace(0, p, 1) has it", () => {
    const vit = new VisionTransformer({ ...tiny, depth: 1, dropPath: 0.9 });
    const images = randn([8, 3, 12, 20]);
    expect(vit.call(images).tokens.equal(vit.call(images).tokens)).toBe(true);
  });
});

describe("wrong inputs are told", () => {
  const vit = new VisionTransformer(tiny);
  test("the image size of the positions must be made of patches", () => {
    expect(() => new VisionTransformer({ imageSize: 30, patchSize: 4 })).toThrow(
      "the image size 30x30 must be a multiple of the patch size, 4",
    );
  });
  test("the images' shape", () => {
    expect(() => vit.call(randn([2, 1, 12, 20]))).toThrow("the encoder expects images [B, 3, H, W], got [2, 1, 12, 20]");
    expect(() => vit.call(randn([3, 12, 20]))).toThrow("the encoder expects images [B, 3, H, W], got [3, 12, 20]");
    expect(() => vit.call(randn([2, 3, 12, 18]))).toThrow(
      "image height and width must be multiples of the patch size 4, got 12x18",
    );
  });
  test("levels that do not exist", () => {
    for (const level of [2, -3, 0.5]) {
      expect(() => vit.call(randn([1, 3, 12, 20]), { levels: [level] })).toThrow(
        `level ${level} does not exist: the encoder has blocks 0 to 1`,
      );
    }
  });
  test("a width that heads do not divide, or that fixed positions cannot have", () => {
    expect(() => new VisionTransformer({ ...tiny, heads: 3 })).toThrow(
      "the width 16 must be a multiple of the number of heads, 3",
    );
    expect(() => new VisionTransformer({ ...tiny, width: 6, heads: 1, positions: "sin-cos" })).toThrow(
      "sin-cos positions need a width that is a multiple of 4, got 6",
    );
  });
});

describe("weights", () => {
  const statistics = (each: Tensor) => {
    const [mean, std, top] = [each.mean(), each.std(), each.abs().amax()].map((value) => value.item());
    return { mean: mean!, std: std!, top: top! };
  };
  const sized = { imageSize: 32, patchSize: 4, width: 96, depth: 2, heads: 3 };

  test("one seed gives one set of weights", () => {
    const [a, b] = [1, 1].map((seed) => {
      manualSeed(seed);
      return new VisionTransformer(tiny);
    }) as [VisionTransformer, VisionTransformer];
    const theirs = b.stateDict();
    for (const [name, each] of a.stateDict()) expect(each.equal(theirs.get(name)!), name).toBe(true);
  });
  test("dino: truncated normal of 0.02 for matrices, positions and class token, biases 0, patch projection as torch's", () => {
    const vit = new VisionTransformer(sized);
    for (const each of [vit.posEmbed, vit.clsToken!, vit.blocks[0]!.attn.qkv.weight, vit.blocks[1]!.mlp.fc2.weight]) {
      expect(statistics(each).std).toBeGreaterThan(0.015);
      expect(statistics(each).std).toBeLessThan(0.025);
    }
    expect(vit.blocks[0]!.attn.qkv.bias!.abs().sum().item()).toBe(0);
    const bound = 1 / Math.sqrt(3 * 16);
    for (const each of [vit.patchEmbed.proj.weight, vit.patchEmbed.proj.bias!]) {
      expect(statistics(each).top).toBeLessThanOrEqual(bound);
      expect(statistics(each).top).toBeGreaterThan(0.9 * bound);
    }
  });
  test("timm: as dino, with a class token near 0", () => {
    const vit = new VisionTransformer({ ...sized, init: "timm" });
    expect(statistics(vit.clsToken!).top).toBeLessThan(1e-5);
    expect(statistics(vit.clsToken!).top).toBeGreaterThan(0);
    expect(statistics(vit.posEmbed).std).toBeGreaterThan(0.015);
  });
  test("mae: Xavier bounds, the patch projection as a matrix", () => {
    const vit = new VisionTransformer({ ...sized, init: "mae", positions: "sin-cos" });
    const bounds: [Tensor, number][] = [
      [vit.blocks[0]!.attn.qkv.weight, Math.sqrt(6 / (96 + 288))],
      [vit.blocks[0]!.mlp.fc1.weight, Math.sqrt(6 / (96 + 384))],
      [vit.patchEmbed.proj.weight, Math.sqrt(6 / (48 + 96))],
    ];
    for (const [each, bound] of bounds) {
      expect(statistics(each).top).toBeLessThanOrEqual(bound);
      expect(statistics(each).top).toBeGreaterThan(0.99 * bound);
    }
    expect(statistics(vit.clsToken!).std).toBeGreaterThan(0.015);
  });
  test("moco-v3: q, k and v each Xavier, class token near 0, no bias of the patch projection at the start", () => {
    const vit = new VisionTransformer({ ...sized, init: "moco-v3", positions: "sin-cos" });
    const bound = Math.sqrt(6 / (96 + 96));
    expect(statistics(vit.blocks[0]!.attn.qkv.weight).top).toBeGreaterThan(0.99 * bound);
    expect(statistics(vit.blocks[0]!.attn.qkv.weight).top).toBeLessThanOrEqual(bound);
    expect(vit.patchEmbed.proj.bias!.abs().sum().item()).toBe(0);
    expect(statistics(vit.clsToken!).top).toBeLessThan(1e-5);
  });
  test("the key bias does not exist, not even as a parameter", () => {
    const names = [...new VisionTransformer({ ...tiny, keyBias: false }).stateDict().keys()];
    expect(names.filter((name) => name.startsWith("blocks.0.attn."))).toEqual([
      "blocks.0.attn.q_bias",
      "blocks.0.attn.v_bias",
      "blocks.0.attn.qkv.weight",
      "blocks.0.attn.proj.weight",
      "blocks.0.attn.proj.bias",
    ]);
  });
  test("fixed positions are not trained", () => {
    const vit = new VisionTransformer({ ...tiny, positions: "sin-cos" });
    expect([...vit.namedParameters()].map(([name]) => name)).not.toContain("pos_embed");
    expect(vit.posEmbed.requiresGrad).toBe(false);
    expect(vit.posEmbed.narrow(1, 0, 1).abs().sum().item()).toBe(0);
  });
  test("ViT-Ti/16 has timm's number of parameters", () => {
    const vit = new VisionTransformer(vitSizes.tiny);
    expect(vit.parameterCount).toBe(5_524_416);
    vit.dispose();
  });
  test("loading positions of another grid interpolates them, and the class token's stays", () => {
    const from = setWeights(new VisionTransformer(square));
    const to = new VisionTransformer(tiny);
    to.loadWeights(from.stateDict());
    near(to.posEmbed, from.positionsFor([3, 5]), 1e-7);
    expect(to.posEmbed.narrow(1, 0, 1).equal(from.posEmbed.narrow(1, 0, 1))).toBe(true);
    expect(to.norm.weight!.equal(from.norm.weight!)).toBe(true);
    const back = new VisionTransformer({ ...square });
    back.loadWeights(to.stateDict(), [3, 5]);
    expect(back.posEmbed.shape).toEqual([1, 17, 16]);
  });
  test("randomly permuted patches with their positions permuted alike give the same class token", () => {
    const vit = setWeights(new VisionTransformer(square).to("float64"));
    const images = fill([2, 3, 16, 16], 1);
    const order = randperm(16);
    const patches = (x: Tensor) => x.reshape([2, 3, 4, 4, 4, 4]).permute([0, 2, 4, 1, 3, 5]).reshape([2, 16, 48]);
    const image = (x: Tensor) => x.reshape([2, 4, 4, 3, 4, 4]).permute([0, 3, 1, 4, 2, 5]).reshape([2, 3, 16, 16]);
    const before = vit.call(images).feature;
    noGrad(() => vit.posEmbed.copy_(cat([vit.posEmbed.narrow(1, 0, 1), vit.posEmbed.slice(1, 1).indexSelect(1, order)], 1)));
    near(vit.call(image(patches(images).indexSelect(1, order))).feature, before, 1e-12);
  });
});
