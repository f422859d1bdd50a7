// Biases by relative position: a ViT equals timm's Beit on the same weights (tests/reference/beit_timm.py), values and gradients.
import { describe, expect, it } from "vitest";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../../tests/reference/golden.js";
import { setWeights, weightOf } from "../../tests/reference/vit-weights.js";
import { linear, noGrad, type Tensor, zeros } from "../torch/index.js";
import { inferVitConfig } from "./checkpoint.js";
import { encoderTensors } from "./checkpoint-names.js";
import { biasRows, RelativeIndex, resizeBiasTable } from "./relative-position.js";
import { VisionTransformer } from "./vit.js";

const golden = readGolden<{
  cases: Record<
    string,
    {
      where: "block" | "shared" | "none";
      pool: "avg" | "token";
      shapes: Record<string, number[]>;
      logits: Stored;
      gradients: Record<string, Stored>;
    }
  >;
  resized: Record<string, Stored>;
}>("beit_timm");

/** The weights of a case by timm's names, as a file has them. */
const fileOf = (shapes: Record<string, number[]>) =>
  new Map(Object.entries(shapes).map(([name, shape]) => [name, weightOf(name, shape)]));

describe("a ViT with biases by relative position", () => {
  for (const [name, { where, pool, shapes, logits, gradients }] of Object.entries(golden.cases)) {
    it(`equals timm's Beit: ${name}`, () => {
      const file = fileOf(shapes);
      const { own, ignored } = encoderTensors(file);
      if (pool === "avg") {
        expect(ignored.sort()).toEqual(["head.bias", "head.weight"]);
        expect(own.get("norm.weight")).toBe(file.get("fc_norm.weight"));
      }
      const config = inferVitConfig(own, {}, { imageSize: [24, 32] });
      expect(config).toMatchObject({ keyBias: false, qkvBias: true, layerScale: 1 });
      expect(config.relPosBias ?? "none").toBe(where);
      const vit = new VisionTransformer({ ...config, heads: 2 }).to("float64");
      vit.loadWeights(own, [3, 4]);
      const weights = new Map(
        [...file].filter(([key]) => /^(head|fc_norm)/.test(key)).map(([key, each]) => [key, each.requiresGrad_()]),
      );
      const [head, bias] = [weights.get("head.weight")!, weights.get("head.bias")!];
      const forward = (images: Tensor): Tensor => {
        if (pool === "token") return linear(vit.call(images, { classOnly: true }).feature, head, bias);
        const pooled = vit
          .call(images, { levels: [-1] })
          .levels[0]!.slice(1, 1)
          .mean(1);
        const centred = pooled.sub(pooled.mean(-1, { keepdim: true }));
        const spread = centred.mul(centred).mean(-1, { keepdim: true }).add(1e-6).sqrt();
        return linear(centred.div(spread).mul(weights.get("fc_norm.weight")!).add(weights.get("fc_norm.bias")!), head, bias);
      };
      const out = forward(fill([2, 3, 24, 32], 1));
      expectClose(out, logits, 1e-9, "logits");
      out
        .mul(fill([2, 5], 2))
        .sum()
        .backward();
      const parameters = new Map([...vit.namedParameters(), ...weights]);
      for (const [key, stored] of Object.entries(gradients)) {
        const ours = key.replace(/gamma_([12])$/, "ls$1.gamma");
        expectClose(parameters.get(ours)!.grad!, stored, 1e-8, key);
      }
      expect(Object.keys(gradients).length).toBeGreaterThan(2);
    });
  }

  const config = { imageSize: 16, patchSize: 4, width: 8, depth: 2, heads: 2 } as const;

  it("starts from biases of zero, which change nothing", () => {
    const plain = setWeights(new VisionTransformer(config));
    for (const relPosBias of ["block", "shared"] as const) {
      const biased = new VisionTransformer({ ...config, relPosBias });
      const before = plain.stateDict();
      biased.loadWeights(before);
      const images = fill([2, 3, 16, 16], 1).float();
      const [a, b] = noGrad(() => [plain.call(images).tokens, biased.call(images).tokens] as const);
      expect(b.equal(a)).toBe(true);
      expect([...biased.stateDict().keys()].filter((name) => name.endsWith("relative_position_bias_table"))).toHaveLength(
        relPosBias === "block" ? 2 : 1,
      );
    }
  });

  it("the class token alone, and attention on request, are those of the whole sequence", () => {
    const vit = setWeights(new VisionTransformer({ ...config, relPosBias: "block" })).eval();
    const images = fill([2, 3, 16, 16], 1).float();
    const whole = noGrad(() => vit.call(images, { attention: true }));
    const short = noGrad(() => vit.call(images, { classOnly: true, attention: true }));
    expect(short.feature.sub(whole.feature).abs().amax().item()).toBeLessThan(1e-5);
    expect(short.attention!.sub(whole.attention!).abs().amax().item()).toBeLessThan(1e-6);
  });

  it("works on other grids, with other masks, without a class token; a subset of patches is refused", () => {
    const vit = setWeights(new VisionTransformer({ ...config, relPosBias: "shared", classToken: false }));
    expect(vit.relPosBias!.relativePositionBiasTable.shape).toEqual([49, 2]);
    expect(vit.call(fill([1, 3, 8, 24], 1).float(), { attentionMask: zeros([12, 12]) }).tokens.shape).toEqual([1, 12, 8]);
    expect(() => vit.call(fill([1, 3, 16, 16], 1).float(), { subset: zeros([1, 3]).to("int64") })).toThrow("leave out subset");
  });

  it("takes tables of another grid over, and back", () => {
    const small = setWeights(new VisionTransformer({ ...config, relPosBias: "block" }));
    const large = new VisionTransformer({ ...config, imageSize: 24, relPosBias: "block" });
    large.loadWeights(small.stateDict());
    const [from, to] = [small, large].map((vit) => vit.blocks[1]!.attn.relativePositionBiasTable!);
    expect(to!.equal(resizeBiasTable(from!, [4, 4], [6, 6], 1))).toBe(true);
    const again = new VisionTransformer({ ...config, relPosBias: "block" });
    again.loadWeights(small.stateDict());
    expect(again.blocks[0]!.attn.relativePositionBiasTable!.equal(small.blocks[0]!.attn.relativePositionBiasTable!)).toBe(true);
  });
});

describe("the tables", () => {
  it("are resized as timm does", () => {
    for (const [key, stored] of Object.entries(golden.resized)) {
      const [, side, rows, columns] = /^(\d+) to (\d+)x(\d+)$/.exec(key)!.map(Number);
      const table = weightOf("table", [(2 * side! - 1) ** 2 + 3, 2]);
      expectClose(resizeBiasTable(table, undefined, [rows!, columns!], 1), stored, 1e-9, key);
    }
  });

  it("hold equal biases for equal offsets, and three of the class token's own", () => {
    const index = new RelativeIndex([2, 3], 1);
    const rows = biasRows([2, 3], 1);
    expect(rows).toBe(3 * 5 + 3);
    const bias = index.bias(weightOf("t", [rows, 1]), [2, 3]).select(0, 0);
    expect(bias.shape).toEqual([7, 7]);
    const at = (a: number, b: number) => bias.select(0, a).select(0, b).item();
    expect(at(1, 2)).toBe(at(2, 3));
    expect(at(1, 5)).toBe(at(2, 6));
    expect(at(2, 1)).not.toBe(at(1, 2));
    expect(at(0, 3)).toBe(at(0, 6));
    expect(at(3, 0)).toBe(at(6, 0));
    expect(new Set([at(0, 0), at(0, 1), at(1, 0), at(1, 1)]).size).toBe(4);
  });

  it("that fit no grid are refused by name", () => {
    expect(() => resizeBiasTable(zeros([50, 2]), undefined, [3, 3], 1, "blocks.0")).toThrow(
      "blocks.0 of relative positions has 50 rows",
    );
    expect(() => resizeBiasTable(zeros([50, 2]), [2, 2], [3, 3], 1)).toThrow("expected 12, for a grid of 2 x 2");
  });
});
testRegenerates("beit_timm", ["torch", "timm"]);
