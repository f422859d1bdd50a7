// Which parameter is in which group, by the rules of the papers.
import { describe, expect, test } from "vitest";
import { LayerNorm, Linear, Module, parameter } from "../nn/index.js";
import { type Tensor, zeros } from "../torch/index.js";
import { decayGroups, layerDecayGroups, OptimizerError, type ParameterGroup, swinLayerOf, vitLayerOf } from "./index.js";

class PatchEmbed extends Module {
  proj = new Linear(12, 4);
  forward(): void {}
}
class Block extends Module {
  norm1 = new LayerNorm(4);
  qkv = new Linear(4, 12);
  qBias: Tensor = parameter(zeros([4]));
  forward(): void {}
}
class Vit extends Module {
  clsToken: Tensor = parameter(zeros([1, 1, 4]));
  maskToken: Tensor = parameter(zeros([1, 1, 4]));
  posEmbed: Tensor = parameter(zeros([1, 5, 4]));
  patchEmbed = new PatchEmbed();
  blocks = [new Block(), new Block(), new Block()];
  norm = new LayerNorm(4);
  forward(): void {}
}
class Classifier extends Module {
  encoder = new Vit();
  head = new Linear(4, 10);
  forward(): void {}
}

const names = (group: ParameterGroup | undefined) => [...(group?.names ?? [])];
const consistent = (module: Module, groups: ParameterGroup[]) => {
  const all = new Map(module.namedParameters());
  const given = groups.flatMap((group) => group.names.map((name, i) => [name, group.parameters[i]!] as const));
  expect(given.every(([name, each]) => all.get(name) === each)).toBe(true);
  expect(new Set(given.map(([name]) => name)).size).toBe(given.length);
  return given.length;
};

describe("decay", () => {
  test("no-bias-norm: matrices and tokens decay; biases and everything of one dimension do not", () => {
    const vit = new Vit();
    const groups = decayGroups(vit);
    expect(groups.map((group) => group.decayScale)).toEqual([1, 0]);
    const blocks = (name: string) => [0, 1, 2].map((i) => `blocks.${i}.${name}`);
    expect(names(groups[0])).toEqual([
      "cls_token",
      "mask_token",
      "pos_embed",
      "patch_embed.proj.weight",
      ...blocks("qkv.weight"),
    ]);
    expect(names(groups[1])).toHaveLength(1 + 3 * 4 + 2);
    expect(names(groups[1])).toEqual(
      expect.arrayContaining(["patch_embed.proj.bias", ...blocks("q_bias"), "norm.weight", "norm.bias"]),
    );
    expect(consistent(vit, groups)).toBe(vit.parameters().length);
  });
  test("all: one group", () => {
    const vit = new Vit();
    const groups = decayGroups(vit, "all");
    expect(groups).toHaveLength(1);
    expect(consistent(vit, groups)).toBe(vit.parameters().length);
  });
  test("a rule of one's own", () => {
    const groups = decayGroups(new Vit(), (name, tensor) => tensor.ndim === 2 && !name.includes("patch"));
    expect(names(groups[0])).toEqual(["blocks.0.qkv.weight", "blocks.1.qkv.weight", "blocks.2.qkv.weight"]);
  });
  test("a bias with more than one dimension does not decay either, and no Swin's table of them", () => {
    class Odd extends Module {
      bias: Tensor = parameter(zeros([2, 2]));
      relativePositionBiasTable: Tensor = parameter(zeros([9, 2]));
      weight: Tensor = parameter(zeros([2, 2]));
      forward(): void {}
    }
    expect(decayGroups(new Odd()).map(names)).toEqual([["weight"], ["bias", "relative_position_bias_table"]]);
  });
  test("DeiT's, BEiT's and MAE's rule: neither biases nor norms nor tokens nor positions; tables of a ViT decay, a Swin's do not", () => {
    class Whole extends Module {
      clsToken: Tensor = parameter(zeros([1, 1, 2]));
      posEmbed: Tensor = parameter(zeros([1, 4, 2]));
      maskToken: Tensor = parameter(zeros([1, 1, 2]));
      weight: Tensor = parameter(zeros([2, 2]));
      bias: Tensor = parameter(zeros([2]));
      blocks: Module[] = [new Table()];
      layers: Module[] = [new Table()];
      forward(): void {}
    }
    class Table extends Module {
      relativePositionBiasTable: Tensor = parameter(zeros([9, 2]));
      forward(): void {}
    }
    expect(decayGroups(new Whole(), "no-bias-norm-tokens").map(names)).toEqual([
      ["weight", "blocks.0.relative_position_bias_table"],
      ["cls_token", "pos_embed", "mask_token", "bias", "layers.0.relative_position_bias_table"],
    ]);
  });
  test("frozen parameters are in no group", () => {
    const vit = new Vit();
    vit.patchEmbed.requiresGrad_(false);
    const groups = decayGroups(vit);
    expect(groups.flatMap(names).some((name) => name.startsWith("patch_embed"))).toBe(false);
    expect(consistent(vit, groups)).toBe(vit.parameters().length - 2);
  });
});

describe("layer-wise learning rates", () => {
  test("layers as BEiT and MAE count them", () => {
    const expected = { cls_token: 0, mask_token: 0, pos_embed: 0, "patch_embed.proj.weight": 0, "blocks.0.qkv.weight": 1 };
    for (const [name, layer] of Object.entries(expected)) expect(vitLayerOf(name, 12), name).toBe(layer);
    expect(vitLayerOf("blocks.11.mlp.fc1.bias", 12)).toBe(12);
    for (const name of ["norm.weight", "head.weight", "fc_norm.bias"]) expect(vitLayerOf(name, 12), name).toBe(13);
  });
  test("a Swin's layers as its fine-tuning counts them: blocks over all stages, merging with the block before it", () => {
    const depths = [2, 2, 6, 2];
    const expected = {
      "patch_embed.proj.weight": 0,
      mask_token: 0,
      "layers.0.blocks.0.attn.qkv.weight": 1,
      "layers.0.blocks.1.mlp.fc1.bias": 2,
      "layers.1.downsample.reduction.weight": 2,
      "layers.1.downsample.norm.bias": 2,
      "layers.1.blocks.0.norm1.weight": 3,
      "layers.2.blocks.5.attn.relative_position_bias_table": 10,
      "layers.3.downsample.norm.weight": 10,
      "layers.3.blocks.1.norm2.bias": 12,
      "norm.weight": 13,
      "head.weight": 13,
    };
    for (const [name, layer] of Object.entries(expected)) expect(swinLayerOf(name, depths), name).toBe(layer);
  });
  test("the rate falls with each layer, and each layer is split by decay", () => {
    const vit = new Vit();
    const groups = layerDecayGroups(vit, { layerDecay: 0.5 });
    expect(consistent(vit, groups)).toBe(vit.parameters().length);
    const scaleOf = new Map(groups.flatMap((group) => group.names.map((name) => [name, group] as const)));
    const expected = { pos_embed: 0.5 ** 4, "blocks.0.qkv.weight": 0.5 ** 3, "blocks.2.qkv.bias": 0.5, "norm.weight": 1 };
    for (const [name, scale] of Object.entries(expected)) expect(scaleOf.get(name)!.lrScale, name).toBe(scale);
    expect(scaleOf.get("blocks.0.qkv.weight")!.decayScale).toBe(1);
    expect(scaleOf.get("blocks.0.qkv.bias")!.decayScale).toBe(0);
    expect(groups).toHaveLength(2 * 4 + 1);
  });
  test("a ViT inside a classifier: the head counts as after the blocks", () => {
    const groups = layerDecayGroups(new Classifier(), { layerDecay: 0.75, prefix: "encoder", rule: "all" });
    const scaleOf = (name: string) => groups.find((group) => group.names.includes(name))?.lrScale;
    expect(scaleOf("head.weight")).toBe(1);
    expect(scaleOf("encoder.norm.weight")).toBe(1);
    expect(scaleOf("encoder.blocks.2.norm1.bias")).toBe(0.75);
    expect(scaleOf("encoder.cls_token")).toBe(0.75 ** 4);
  });
  test("another way to count", () => {
    const groups = layerDecayGroups(new Classifier(), {
      layerDecay: 0.1,
      rule: "all",
      layerOf: (name) => (name.startsWith("head") ? 1 : 0),
    });
    expect(groups.map((group) => group.lrScale)).toEqual([0.1, 1]);
  });
  test("a module without blocks where it says is an error that tells what to do", () => {
    expect(() => layerDecayGroups(new Classifier(), { layerDecay: 0.5 })).toThrow(OptimizerError);
    expect(() => layerDecayGroups(new Classifier(), { layerDecay: 0.5, prefix: "backbone" })).toThrow("backbone.blocks.0");
  });
});
