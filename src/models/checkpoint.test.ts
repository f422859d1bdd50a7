// Encoders from files: timm's, other frameworks' prefixes, other image sizes, and files that are none.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { expectClose, fill, readGolden, type Stored } from "../../tests/reference/golden.js";
import { setWeights } from "../../tests/reference/vit-weights.js";
import { noGrad, type Tensor, writeSafetensors, zeros } from "../torch/index.js";
import {
  type Encoder,
  encoderTensors,
  inferVitConfig,
  loadEncoder,
  loadVit,
  type SwinConfig,
  SwinTransformer,
  VisionTransformer,
  type VitConfig,
  WeightsError,
} from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-checkpoint-"));
afterAll(() => rmSync(folder, { recursive: true }));
const golden = readGolden<{ file: string; "tokens of the file": Stored }>("vit_timm");
const timmFile = () => {
  const path = join(folder, "timm.safetensors");
  writeFileSync(path, Buffer.from(golden.file, "base64"));
  return path;
};
const tiny: VitConfig = { imageSize: 16, patchSize: 4, width: 16, depth: 2, heads: 2 };
const save = (name: string, tensors: ReadonlyMap<string, Tensor>, metadata: Record<string, string> = {}) => {
  const path = join(folder, `${name}.safetensors`);
  writeSafetensors(path, tensors, metadata);
  return path;
};
const prefixed = (vit: VisionTransformer, prefix: string) =>
  new Map([...vit.stateDict()].map(([name, each]) => [`${prefix}${name}`, each] as const));
const images = () => fill([2, 3, 16, 16], 1).float();

describe("a file written by Python from timm", () => {
  test("gives timm's outputs, its classifier ignored", () => {
    const { encoder, ignored, metadata } = loadVit(timmFile());
    expect(ignored.sort()).toEqual(["head.bias", "head.weight"]);
    expect(metadata).toEqual({});
    expect(encoder.training).toBe(false);
    expect(encoder.config).toMatchObject({ imageSize: 8, patchSize: 4, width: 8, depth: 2, heads: 1, channels: 3, mlpRatio: 4 });
    const { tokens } = noGrad(() => encoder.call(fill([2, 3, 8, 8], 1).float()));
    expectClose(tokens, golden["tokens of the file"], 1e-5, "tokens");
  });
  test("at another image size its positions are interpolated", () => {
    const { encoder } = loadVit(timmFile(), { imageSize: [12, 16] });
    expect(encoder.posEmbed.shape).toEqual([1, 13, 8]);
    const { encoder: original } = loadVit(timmFile());
    const wide = fill([1, 3, 12, 16], 1).float();
    const [a, b] = [encoder, original].map((each) => noGrad(() => each.call(wide).feature));
    expect(a!.sub(b!).abs().amax().item()).toBeLessThan(1e-6);
  });
});

describe("where frameworks put the encoder", () => {
  for (const prefix of [
    "",
    "backbone.",
    "method.teacher.backbone.",
    "teacher.backbone.",
    "module.base_encoder.",
    "module.backbone.",
  ]) {
    test(`"${prefix}"`, () => {
      const vit = setWeights(new VisionTransformer(tiny)).eval();
      const tensors = new Map([...prefixed(vit, prefix), [`${prefix || "x."}head.mlp.0.weight`, zeros([1])]]);
      const { encoder, ignored } = loadVit(save("prefix", tensors), { heads: 2 });
      expect(ignored).toEqual([`${prefix || "x."}head.mlp.0.weight`]);
      expect(encoder.call(images()).tokens.equal(vit.call(images()).tokens)).toBe(true);
    });
  }
  test("of a checkpoint with student and teacher, the teacher is taken", () => {
    const [student, teacher] = [new VisionTransformer(tiny), setWeights(new VisionTransformer(tiny))];
    const both = new Map([...prefixed(student, "method.student.backbone."), ...prefixed(teacher, "method.teacher.backbone.")]);
    expect(encoderTensors(both).own.get("norm.weight")!.equal(teacher.norm.weight!)).toBe(true);
  });
});

describe("the configuration is read off the weights", () => {
  const variants: Record<string, VitConfig> = {
    "layer scale": { layerScale: 0.1 },
    "no key bias": { keyBias: false },
    "no bias of q, k, v": { qkvBias: false },
    "no class token": { classToken: false },
    "narrow mlp, one channel": { mlpRatio: 2, channels: 1 },
    "fixed positions": { positions: "sin-cos" },
    "another grid": { imageSize: [8, 16] },
  };
  for (const [name, changes] of Object.entries(variants)) {
    test(name, () => {
      const config = { ...tiny, ...changes };
      const vit = new VisionTransformer(config).eval();
      if (config.positions !== "sin-cos") setWeights(vit);
      const path = save("variant", vit.stateDict(), { model: JSON.stringify(config) });
      const { encoder, ignored } = loadVit(path);
      expect(ignored).toEqual([]);
      const given = fill([2, config.channels ?? 3, 16, 16], 1).float();
      expect(encoder.call(given).tokens.equal(vit.call(given).tokens)).toBe(true);
    });
  }
  test("64 channels a head, as the published sizes have, when nothing else is said", () => {
    const config = inferVitConfig(new VisionTransformer({ ...tiny, width: 192, heads: 3 }).stateDict());
    expect(config.heads).toBe(3);
  });
  test("fixed positions are made for the new size, not interpolated", () => {
    const config = { ...tiny, positions: "sin-cos" } as const;
    const path = save("fixed", new VisionTransformer(config).stateDict(), { model: JSON.stringify(config) });
    const { encoder } = loadVit(path, { imageSize: 32 });
    expect(encoder.posEmbed.equal(new VisionTransformer({ ...config, imageSize: 32 }).posEmbed)).toBe(true);
  });
});

test("positions of as many patches in another shape are interpolated, not taken over", () => {
  const config = { ...tiny, imageSize: [8, 16] } as const;
  const vit = setWeights(new VisionTransformer(config));
  const path = save("turned", vit.stateDict(), { model: JSON.stringify(config) });
  const { encoder } = loadVit(path, { imageSize: [16, 8] });
  expect(encoder.posEmbed.equal(vit.positionsFor([4, 2]))).toBe(true);
});

describe("what is no encoder is told", () => {
  test("no patch embedding", () => {
    expect(() => loadVit(save("other", new Map([["conv1.weight", zeros([2])]])))).toThrow(
      "the file has no patch_embed.proj.weight, which a Vision Transformer or a Swin by timm's names has; it has conv1.weight",
    );
  });
  test("no blocks or positions", () => {
    const vit = new VisionTransformer(tiny);
    const without = (pattern: RegExp) => new Map([...vit.stateDict()].filter(([name]) => !pattern.test(name)));
    for (const pattern of [/^blocks/, /^pos_embed/]) {
      expect(() => loadVit(save("part", without(pattern)))).toThrow("the weights have no pos_embed or no blocks");
    }
    expect(() => loadVit(save("part", without(/^norm\.bias/)))).toThrow(/norm\.bias/);
  });
  test("positions that are no square grid, when the file does not say which", () => {
    const vit = new VisionTransformer({ ...tiny, imageSize: [8, 16] });
    expect(() => loadVit(save("grid", vit.stateDict()))).toThrow("the positions are for 8 patches, which is not a square grid");
    expect(loadVit(save("grid", vit.stateDict()), { imageSize: [8, 16] }).encoder.positionGrid).toEqual([2, 4]);
  });
  test("metadata that are not what this library writes", () => {
    const path = save("metadata", new VisionTransformer(tiny).stateDict(), { model: "not JSON" });
    expect(() => loadVit(path)).toThrow(WeightsError);
    expect(() => loadVit(path)).toThrow('the metadata\'s "model" is not JSON');
  });
});

describe("Swin", () => {
  const small = readGolden<{ file: string; "feature of the file": Stored }>("swin_timm");
  const path = () => {
    const file = join(folder, "swin.safetensors");
    writeFileSync(file, Buffer.from(small.file, "base64"));
    return file;
  };

  test("timm's file gives timm's feature; the classifier is ignored", () => {
    const { encoder, ignored } = loadEncoder(path());
    expect(ignored).toEqual(["head.fc.bias", "head.fc.weight"]);
    const { feature } = noGrad(() => encoder.call(fill([2, 3, 16, 16], 1).float()));
    expectClose(feature, small["feature of the file"], 1e-5);
    expect(encoder.levelShapes).toEqual([
      { width: 8, stride: 4 },
      { width: 16, stride: 8 },
    ]);
  });

  const tinySwin: SwinConfig = { imageSize: 64, embedDim: 8, depths: [2, 2], heads: [2, 4], windowSize: 4 };
  const swin = (changes: SwinConfig = {}) => setWeights(new SwinTransformer({ ...tinySwin, ...changes })).eval();
  const saved = (encoder: SwinTransformer, metadata: Record<string, string> = {}) => save("swin", encoder.stateDict(), metadata);
  const outputs = (encoder: Encoder, given: Tensor) => noGrad(() => encoder.call(given).tokens);
  const table = (encoder: Encoder, stage: number) =>
    encoder.stateDict().get(`layers.${stage}.blocks.0.attn.relative_position_bias_table`)!;

  test("the window and the image size are read off the bias tables", () => {
    // 12 of 384 px, as timm's larger ones have: one window covers the last stage.
    const made = swin({ windowSize: 6, imageSize: 48, qkvBias: false, mlpRatio: 2 });
    const { encoder } = loadEncoder(saved(made));
    expect((encoder as SwinTransformer).config).toEqual(made.config);
    const shrunk = loadEncoder(saved(swin({ imageSize: 16, windowSize: 3 }))).encoder as SwinTransformer;
    expect(shrunk.config).toMatchObject({ imageSize: 16, windowSize: 3 });
  });

  test("made for smaller images it does what it did on small images, made for larger ones its tables are interpolated", () => {
    const made = swin();
    const given = fill([1, 3, 16, 16], 1).float();
    const metadata = { model: JSON.stringify(made.config) };
    for (const path of [saved(made), saved(made, metadata)]) {
      const { encoder } = loadEncoder(path, { imageSize: 16 });
      expect([0, 1].map((stage) => table(encoder, stage).shape)).toEqual([
        [49, 2],
        [9, 4],
      ]);
      expect(outputs(encoder, given).equal(outputs(made, given))).toBe(true);
    }
    const narrow = swin({ imageSize: 16 });
    const { encoder } = loadEncoder(saved(narrow), { imageSize: 64 });
    const [before, after] = [table(narrow, 1), table(encoder, 1)];
    expect([before.shape, after.shape]).toEqual([
      [9, 4],
      [49, 4],
    ]);
    expect(after.select(0, 24).sub(before.select(0, 4)).abs().amax().item()).toBeLessThan(1e-6);
  });

  test("windows that are not square load by their metadata, and are refused without", () => {
    const made = swin({ imageSize: [8, 32] });
    const { encoder } = loadEncoder(saved(made, { model: JSON.stringify(made.config) }));
    const given = fill([1, 3, 8, 32], 1).float();
    expect(outputs(encoder, given).equal(outputs(made, given))).toBe(true);
    expect(() => loadEncoder(saved(made))).toThrow(
      "the stages have bias tables of 21, 7 rows, which no square windows of one size give; expected a Swin of one window size",
    );
    expect(() => swin().loadWeights(made.stateDict())).toThrow(
      "layers.0.blocks.0.attn.relative_position_bias_table has 21 rows; expected those of windows of 4 x 4 tokens or of a square window",
    );
  });

  test("the published code's names: merging at the end of a stage, and tables that follow from sizes", () => {
    const made = swin();
    const names = [...made.stateDict()].map(
      ([name, each]) => [name.replace("layers.1.downsample", "layers.0.downsample"), each] as const,
    );
    const tables = ["layers.0.blocks.1.attn_mask", "layers.0.blocks.0.attn.relative_position_index"];
    const path = save("published", new Map([...names, ...tables.map((name) => [name, zeros([2])] as const)]));
    const { encoder, ignored } = loadEncoder(path, { imageSize: 64 });
    expect(ignored.sort()).toEqual(tables.toSorted());
    const given = fill([1, 3, 64, 64], 1).float();
    expect(outputs(encoder, given).equal(outputs(made, given))).toBe(true);
  });

  test("is not a Vision Transformer", () => {
    expect(() => loadVit(path())).toThrow(/holds a Swin, not a Vision Transformer: take loadEncoder/);
  });
});
