// Published checkpoints under their own names give what the same weights give under timm's, at their size and at another.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fill, seedOf } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { noGrad, type Tensor, tidy, writeSafetensors, zeros } from "../torch/index.js";
import {
  encoderTensors,
  loadEncoder,
  loadVit,
  SwinTransformer,
  VisionTransformer,
  type VitConfig,
  WeightsError,
} from "./index.js";
import { sinCosPositions } from "./position.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-names-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Weights = Map<string, Tensor>;
const save = (name: string, tensors: Weights): string => {
  const path = join(folder, `${name}.safetensors`);
  writeSafetensors(path, tensors);
  return path;
};
const make = (changes: VitConfig = {}) =>
  setWeights(new VisionTransformer({ imageSize: 16, patchSize: 4, width: 64, depth: 2, heads: 1, ...changes })).eval();
const under = (prefix: string, tensors: Weights): Weights =>
  new Map([...tensors].map(([name, each]) => [`${prefix}${name}`, each] as const));
const renamed = (tensors: Weights, rename: (name: string) => string): Weights =>
  new Map([...tensors].map(([name, each]) => [rename(name), each] as const));
/** Tensors of a framework that are not the encoder's. */
const others = (...names: string[]): Weights => new Map(names.map((name) => [name, zeros([2])] as const));
const all = (...parts: Weights[]): Weights => new Map(parts.flatMap((part) => [...part]));
/** Another encoder of the same shape, which must not be taken. */
const wrong = (vit: VisionTransformer): Weights =>
  new Map([...vit.stateDict()].map(([name, each]) => [name, each.mul(0.5).add(0.1)]));

/** The file gives what `vit` gives, at its own size and where positions are interpolated. */
function expectSame(path: string, vit: VisionTransformer, ignored: string[], options: VitConfig = {}): void {
  const plain = save("timm", vit.stateDict());
  const { heads, channels } = vit.config;
  for (const imageSize of [undefined, 24]) {
    tidy(() => {
      const size = imageSize === undefined ? {} : { imageSize };
      const loaded = loadVit(path, { ...options, ...size });
      const reference = loadVit(plain, { heads, ...size });
      expect(loaded.ignored.toSorted()).toEqual(ignored.toSorted());
      expect(loaded.encoder.config.heads).toBe(heads);
      const side = imageSize ?? 16;
      expect(loaded.encoder.positionGrid).toEqual([side / 4, side / 4]);
      const images = fill([2, channels, side, side], 1).float();
      noGrad(() => {
        const given = loaded.encoder.call(images).tokens;
        expect(given.equal(reference.encoder.call(images).tokens)).toBe(true);
        if (imageSize === undefined) expect(given.sub(vit.call(images).tokens).abs().amax().item()).toBeLessThan(1e-5);
      });
    });
  }
}

describe("published names", () => {
  it("of DINO: student and teacher, the teacher's backbone", () => {
    const vit = make();
    const head = ["mlp.0.weight", "mlp.0.bias", "last_layer.weight_g", "last_layer.weight_v"];
    const full = all(
      under("student.module.backbone.", wrong(vit)),
      others(...head.map((name) => `student.module.head.${name}`)),
      under("teacher.backbone.", vit.stateDict()),
      others(...head.map((name) => `teacher.head.${name}`), "dino_loss.center"),
    );
    const ignored = [...full.keys()].filter((name) => !name.startsWith("teacher.backbone."));
    expectSame(save("dino", full), vit, ignored);
    // Its backbones by themselves have timm's names; a single branch of a distributed run has a wrapper.
    expectSame(save("dino-backbone", vit.stateDict()), vit, []);
    expectSame(save("dino-teacher", all(under("module.backbone.", vit.stateDict()), others("module.head.mlp.0.weight"))), vit, [
      "module.head.mlp.0.weight",
    ]);
  });

  it("of MoCo v3: the base encoder, 12 heads of a ViT-S, fixed positions", () => {
    const vit = make({ width: 384, depth: 1, heads: 12 });
    noGrad(() => vit.posEmbed.slice(1, 1).copy_(sinCosPositions([4, 4], 384).unsqueeze(0)));
    noGrad(() => vit.posEmbed.slice(1, 0, 1).zero_());
    const projector = others("head.0.weight", "head.1.weight", "head.1.running_mean", "head.3.weight");
    const full = all(
      under("module.base_encoder.", all(vit.stateDict(), projector)),
      under("module.momentum_encoder.", all(wrong(vit), projector)),
      others("module.predictor.0.weight", "module.predictor.1.num_batches_tracked"),
    );
    const ignored = [...full.keys()].filter((name) => !/^module\.base_encoder\.(?!head)/.test(name));
    expectSame(save("moco", full), vit, ignored);
    expectSame(
      save("moco-nested", under("state_dict.", full)),
      vit,
      ignored.map((name) => `state_dict.${name}`),
    );
    // Converted to DeiT's form, the names say nothing any more.
    expect(loadVit(save("moco-deit", under("model.", vit.stateDict()))).encoder.config.heads).toBe(6);
    expectSame(save("moco-deit", under("model.", vit.stateDict())), vit, [], { heads: 12 });
  });

  it("of CAE: the encoder, without bias of keys, with layer scale", () => {
    const official = (name: string) => name.replace(/\.ls([12])\.gamma$/, ".gamma_$1");
    const vit = make({ keyBias: false, layerScale: 0.1 });
    const encoder = renamed(vit.stateDict(), official);
    expect([...encoder.keys()].filter((name) => name.startsWith("blocks.0.")).toSorted()).toEqual(
      [
        ...["attn.proj.bias", "attn.proj.weight", "attn.q_bias", "attn.qkv.weight", "attn.v_bias", "gamma_1", "gamma_2"],
        ...["mlp.fc1.bias", "mlp.fc1.weight", "mlp.fc2.bias", "mlp.fc2.weight"],
        ...["norm1.bias", "norm1.weight", "norm2.bias", "norm2.weight"],
      ].map((name) => `blocks.0.${name}`),
    );
    const full = all(
      under("encoder.", encoder),
      under("teacher.", renamed(wrong(vit), official)),
      others("mask_token", "pretext_neck.regressor_blocks.0.gamma_1_cross", "pretext_neck.decoder_blocks.0.gamma_1"),
      others("pretext_neck.norm.weight", "pretext_neck.head.weight"),
    );
    const ignored = [...full.keys()].filter((name) => !name.startsWith("encoder."));
    expectSame(save("cae", full), vit, ignored);
    expectSame(
      save("cae-nested", under("model.", full)),
      vit,
      ignored.map((name) => `model.${name}`),
    );
    const { own } = encoderTensors(full);
    expect(own.get("blocks.1.ls2.gamma")!.equal(encoder.get("blocks.1.gamma_2")!)).toBe(true);
    const small = make({ width: 384, depth: 1, heads: 12, keyBias: false, layerScale: 0.1 });
    const neck = others("pretext_neck.norm.weight");
    expectSame(save("cae-small", all(under("encoder.", renamed(small.stateDict(), official)), neck)), small, [...neck.keys()]);
  });

  it("of MAE: the decoder is left out", () => {
    const vit = make();
    const decoder = others(
      ...["mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.attn.qkv.weight", "decoder_norm.weight"],
      "decoder_pred.weight",
    );
    expectSame(
      save("mae", under("model.", all(vit.stateDict(), decoder))),
      vit,
      [...decoder.keys()].map((name) => `model.${name}`),
    );
  });

  it("of DeiT and timm's checkpoints: the classifier is left out, averaged weights beside it too", () => {
    const vit = make();
    const head = others("head.weight", "head.bias");
    expectSame(save("deit", under("model.", all(vit.stateDict(), head))), vit, ["model.head.bias", "model.head.weight"]);
    const both = all(under("state_dict.", vit.stateDict()), under("state_dict_ema.", wrong(vit)));
    expectSame(
      save("ema", both),
      vit,
      [...wrong(vit).keys()].map((name) => `state_dict_ema.${name}`),
    );
    expectSame(save("compiled", under("_orig_mod.", vit.stateDict())), vit, []);
  });

  it("of a checkpoint of this library before its export", () => {
    const vit = make();
    const state = all(
      under("method.backbone.", vit.stateDict()),
      others("method.mask_token", "optimizer.backbone.patch_embed.proj.weight.exp_avg"),
    );
    expectSame(save("own", state), vit, ["method.mask_token", "optimizer.backbone.patch_embed.proj.weight.exp_avg"]);
  });

  it("of Swin: nested as it is published, with merging at the end of stages", () => {
    const config = { imageSize: 64, embedDim: 8, depths: [2, 2], heads: [2, 4], windowSize: 4 };
    const swin = setWeights(new SwinTransformer(config)).eval();
    const official = renamed(swin.stateDict(), (name) => name.replace("layers.1.downsample", "layers.0.downsample"));
    const tables = others(
      "layers.0.blocks.1.attn_mask",
      "layers.0.blocks.0.attn.relative_position_index",
      "head.weight",
      "head.bias",
    );
    const path = save("swin", under("model.", all(official, tables)));
    for (const side of [64, 96]) {
      const { encoder, ignored } = loadEncoder(path, { imageSize: side });
      expect(ignored.toSorted()).toEqual([...tables.keys()].map((name) => `model.${name}`).toSorted());
      const reference = loadEncoder(save("swin-timm", swin.stateDict()), { imageSize: side }).encoder;
      const images = fill([1, 3, side, side], 1).float();
      expect(noGrad(() => encoder.call(images).tokens.equal(reference.call(images).tokens))).toBe(true);
    }
  });

  it("of an encoder inside some other model, where it is the only one", () => {
    const vit = make();
    expectSame(save("visual", all(under("visual.trunk.", vit.stateDict()), others("text.weight"))), vit, ["text.weight"]);
  });
});

describe("what cannot be loaded is told in a sentence", () => {
  const vit = make();
  const refusal = (tensors: Weights): string => {
    const path = save("refused", tensors);
    try {
      loadEncoder(path);
    } catch (error) {
      expect(error).toBeInstanceOf(WeightsError);
      return (error as Error).message.slice(path.length + 1);
    }
    throw new Error("it was loaded");
  };
  const extra = (name: string) => refusal(all(vit.stateDict(), others(name)));

  it("parts that change what an encoder computes", () => {
    const parts: Record<string, string> = {
      dist_token: "a distillation token",
      reg_token: "register tokens",
      "norm_pre.weight": "a norm before its blocks",
      "blocks.0.attn.q_norm.weight": "norms of queries and keys",
      "blocks.0.mlp.w12.weight": "gated MLPs",
      "layers.0.blocks.0.attn.logit_scale": "Swin V2's attention",
      absolute_pos_embed: "absolute positions of a Swin",
    };
    for (const [name, what] of Object.entries(parts)) {
      expect(extra(name)).toBe(`holds no encoder: it has ${what} (${name}), which this library's encoders do not have`);
    }
    expect(refusal(others("module.base_encoder.patch_embed.proj.0.weight"))).toBe(
      "holds no encoder: it has a stem of convolutions (module.base_encoder.patch_embed.proj.0.weight), which this library's encoders do not have",
    );
  });

  it("BEiT's relative positions alone", () => {
    const beit = new Map(vit.stateDict());
    beit.delete("pos_embed");
    beit.set("blocks.0.attn.relative_position_bias_table", zeros([52, 1]));
    expect(refusal(beit)).toBe(
      "holds no encoder: the weights have relative positions alone, as BEiT's; expected a Vision Transformer with a pos_embed too",
    );
  });

  it("several encoders of which none is known to be meant", () => {
    expect(refusal(all(under("left.", vit.stateDict()), under("right.", vit.stateDict())))).toBe(
      "holds no encoder: it has several encoders, left, right, and it is not known which is meant; keep one of them in the file",
    );
  });

  it("other names, and patches of video", () => {
    expect(refusal(others("vit.embeddings.patch_embeddings.projection.weight"))).toBe(
      "holds no encoder: the file has no patch_embed.proj.weight, which a Vision Transformer or a Swin by timm's names has; it has vit.embeddings.patch_embeddings.projection.weight, ...",
    );
    const video = new Map(vit.stateDict());
    video.set("patch_embed.proj.weight", fill([64, 3, 2, 4, 4], seedOf("video")).float());
    expect(refusal(video)).toBe(
      "holds no encoder: its patch embedding has shape [64, 3, 2, 4, 4]; expected [width, channels, side, side] of square patches of images",
    );
  });
});
